"""Images and `Preprocess`; data sets on disk and the synthetic street, as pairs of an image and a label map; label lint and the
confusion matrix.

numpy and Pillow only: the device side reads data with it too.
"""

from edgeprune.data.samples import Sample, Samples
from edgeprune.data.split import open_split, spread

__all__ = ["Sample", "Samples", "open_split", "spread"]

"""A sample at the size of a model's input."""

import numpy as np
from PIL import Image

from edgeprune.data.samples import Sample


def resize_sample(sample: Sample, height: int, width: int) -> Sample:
    """The sample at `height` x `width` pixels: the image bilinear, the label by nearest neighbour."""
    if sample.label_HW.shape == (height, width):
        return sample
    image = Image.fromarray(sample.image_HW3).resize((width, height), Image.Resampling.BILINEAR)
    label = Image.fromarray(sample.label_HW).resize((width, height), Image.Resampling.NEAREST)
    return Sample(sample.name, np.asarray(image), np.asarray(label))

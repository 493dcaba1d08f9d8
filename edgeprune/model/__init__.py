"""The plain ViT for segmentation: stem, blocks, head, weight loading, and the protocol that a token policy fulfils."""

from edgeprune.model.policy import Bucket, Masked, Select, TokenPolicy
from edgeprune.model.segmenter import Prediction, Segmenter

__all__ = ["Bucket", "Masked", "Prediction", "Segmenter", "Select", "TokenPolicy"]

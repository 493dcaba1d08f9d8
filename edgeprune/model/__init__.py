"""The plain ViT for segmentation: stem, blocks, head, weight loading, and the protocol that a token policy fulfils."""

from edgeprune.model.policy import Bucket, Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.model.segmenter import Prediction, Segmenter

__all__ = ["Bucket", "Gathered", "Masked", "Prediction", "Segmenter", "Select", "Shape", "TokenPolicy", "View"]

"""edgeprune: pruned, INT8 vision transformers for segmentation on camera streams."""

__version__ = "0.1.0"

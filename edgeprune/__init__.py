"""edgeprune: pruned, INT8 vision transformers for segmentation on camera streams."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent until it is listened to

"""The synthetic street: road scenes with exact labels in CamVid's eleven classes, drawn in numpy alone."""

from edgeprune.synthetic.classes import CLASSES, IGNORE, PALETTE
from edgeprune.synthetic.street import Street, scene

__all__ = ["CLASSES", "IGNORE", "PALETTE", "Street", "scene"]

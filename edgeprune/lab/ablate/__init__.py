"""What a trained model's parts are worth, in PyTorch: the same weights under other selections, and under INT8."""

from edgeprune.lab.ablate.int8 import ablate_int8
from edgeprune.lab.ablate.selection import Scoring, ablate_depth, ablate_selection

__all__ = ["Scoring", "ablate_depth", "ablate_int8", "ablate_selection"]

"""What a trained model's parts are worth, in PyTorch: the same weights under other selections, and under INT8."""

from edgeprune.probe.int8 import probe_int8
from edgeprune.probe.selection import probe

__all__ = ["probe", "probe_int8"]

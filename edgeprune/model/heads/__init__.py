"""Heads: one file per task, a row each in HEADS."""

from edgeprune.model.heads.head import Head
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.heads.semantic import PyramidHead

__all__ = ["HEADS", "Head"]

HEADS: dict[str, type[Head]] = {"semantic": PyramidHead, "instance": QueryHead}

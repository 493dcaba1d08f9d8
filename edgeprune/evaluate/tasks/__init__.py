"""Metrics: one file per task, a row each in METRICS."""

from edgeprune.evaluate.tasks.instance import Instance
from edgeprune.evaluate.tasks.metric import Metric
from edgeprune.evaluate.tasks.semantic import Semantic

__all__ = ["METRICS", "Metric"]

METRICS: dict[str, type[Metric]] = {"semantic": Semantic, "instance": Instance}

"""Models of the instance task, small, and so sure of what they see that some of it passes for a thing."""

from typing import Any

import torch

from edgeprune.model.checkpoint import Card
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.segmenter import Segmenter
from tests import models

QUERIES = 8


def card(policy: str = "svit", depth: int = 2, queries: int = QUERIES, **options: Any) -> Card:
    """As `models.card`, of the instance task."""
    described = models.card(policy, depth, **options)
    return described.model_copy(
        update={"model": described.model.model_copy(update={"task": "instance", "queries": queries})}
    )


def model(described: Card | None = None, seed: int = 0) -> Segmenter:
    """As `models.model`; its queries differ from each other, and their classes from `none`."""
    built = models.model(described or card(), seed)
    assert isinstance(built.head, QueryHead)
    with torch.no_grad():
        built.head.begin.weight.mul_(8.0)
        built.head.heatmap.weight.mul_(8.0)
        built.head.classify.weight.mul_(8.0)
        built.head.outline[2].weight.mul_(4.0)  # type: ignore[union-attr,operator]
    return built

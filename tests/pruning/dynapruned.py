"""Small DynaPrune models, and selections to prune them by."""

from typing import Any

import torch
from torch import Tensor

from edgeprune.model.blocks import Block
from edgeprune.model.policy import Masked, Select, Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.dynaprune import DynaPrune
from tests import models

VARIANTS: list[dict[str, Any]] = [
    {},
    {"smooth": True},
    {"literal_context": True},
    {"reconstruction": "nearest"},
    {"reconstruction": "preserve"},
]
HALF = [1.0] * 12 + [0.0] * 12


def dynaprune(**options: Any) -> tuple[Segmenter, DynaPrune]:
    model = models.model(models.card("dynaprune", **options))
    assert isinstance(model.policy, DynaPrune)
    return model, model.policy


def policy(depth: int = 12, **options: Any) -> DynaPrune:
    made = make_policy(PolicySpec(name="dynaprune", options=options), Shape(192, depth, models.GRID, 11))
    assert isinstance(made, DynaPrune)
    return made


def undecided(policy: DynaPrune) -> None:
    """Weights that leave importances near one half; those of `models.model` make them all but sure."""
    with torch.no_grad():
        for parameter in policy.importance.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25)


def fixed(*keeps: list[float]) -> Select:
    """The same mask for every image, stage by stage."""
    return lambda stage, scores_BN: torch.tensor(keeps[stage]).expand_as(scores_BN)


def run(model: Segmenter, select: Select, batch: int = 1) -> Masked:
    x_BND, _, view = model.embed(models.images(batch))
    return model.policy.masked(list(model.blocks), x_BND, view, select)


class Disturbed(Block):
    """A block that then changes its last twelve tokens."""

    def __init__(self, block: Block, by: float):
        super().__init__(192)
        self.load_state_dict(block.state_dict())
        self.noise_ND = by * torch.randn(12, 192, generator=torch.Generator().manual_seed(0))

    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        y_BND, context_BND = super().forward_with_context(x_ND, keys_N, bias_N)
        return torch.cat((y_BND[:, :12], y_BND[:, 12:] + self.noise_ND), dim=1), context_BND


def disturbed(model: Segmenter, select: Select) -> list[Tensor]:
    """Tokens after all blocks, twice: the second time with the second half changed behind the trunk's block, which would
    spread it in any case."""
    x_BND, _, view = model.embed(models.images(1))
    return [
        model.policy.masked([Disturbed(models.block(model, 0), by), *model.blocks[1:]], x_BND, view, select).x_BND
        for by in (0.0, 3.0)
    ]

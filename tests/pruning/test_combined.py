"""Superpatches, exits and gates together, against a list of tokens kept by loops; any two of them; what each learns from."""

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.decisions import Kind
from edgeprune.pruning.selection import select_none, select_top
from tests import models
from tests.pruning.both_forms import both_forms, check_logits
from tests.pruning.test_cts import cells_by_loops, labels
from tests.pruning.test_dtop import scores_by_loops

SUPERPATCHES: dict[str, Any] = {"levels": [[2, 0.4]]}
EXIT: dict[str, Any] = {"exits": {"exits": [2], "keep": [0.7], "context": 1}}
GATES: dict[str, Any] = {"gates": {"first": 1, "keep": [0.9, 0.5]}}


def policy(grid: tuple[int, int] = (24, 32), depth: int = 12, **options: object) -> Combination:
    made = make_policy(PolicySpec(name="combined", options=options), Shape(192, depth, grid, 11))
    assert isinstance(made, Combination)
    return made


def combined(**options: Any) -> tuple[Segmenter, Combination]:
    """Of four blocks; parts that are not named are off."""
    model = models.model(models.card("combined", **({"levels": [], "exits": None, "gates": None} | options)))
    assert isinstance(model.policy, Combination)
    return model, model.policy


def by_loops(model: Segmenter, image_3HW: Tensor, counts: list[int]) -> Tensor:
    """The logits (K, H/2, W/2): the purest cells share a token; an exit lets the surest go, whose logits stay as they are; a
    gate keeps the best of those that are there, the others wait."""
    made = model.policy
    assert isinstance(made, Combination)
    x_BND, skips, view = model.embed(image_3HW[None])
    groups = [[patch] for patch in range(models.N)]
    if made.purity is not None:
        purity = made.purity(view.images_B3HW)[0][0].tolist()
        cells = cells_by_loops(models.GRID, 2)
        order = sorted(range(len(cells)), key=lambda cell: -purity[cell])
        purest = order[: (models.N - counts[0]) // 3]
        groups = [cells[cell] for cell in purest] + [[p] for cell in order if cell not in purest for p in cells[cell]]
    x_MD = torch.stack([x_BND[0][group].mean(0) for group in groups])
    there, is_open = list(range(len(groups))), set(range(len(groups)))
    frozen: dict[int, Tensor] = {}
    for index, block in enumerate(model.blocks):
        taken = there
        for decision in made.decisions:
            if decision.block != index or decision.kind is Kind.MERGE:
                continue
            count = counts[decision.place]
            if decision.kind is Kind.EXIT:
                logits_MK = made.heads[decision.number](x_MD)
                scores = scores_by_loops(logits_MK, made.exit_options.context, there)
                stays = sorted(there, key=lambda row: -scores[row])[:count]
                if len(stays) < len(there):
                    frozen |= {row: logits_MK[row] for row in is_open}
                    is_open &= {row for row in stays if scores[row] > log(0.05 / 0.95)}
                    there = taken = stays
            else:
                gate_scores = made.gates[decision.number](x_MD).tolist()
                taken = sorted(there, key=lambda row: -gate_scores[row])[:count]
        x_MD[taken] = block(x_MD[taken])
    full_ND, canvas_NK = torch.zeros_like(x_BND[0]), torch.zeros(models.N, model.spec.classes)
    closed: list[int] = []
    for row, group in enumerate(groups):
        full_ND[group] = x_MD[row]
        if row in frozen:
            canvas_NK[group] = frozen[row]
        closed += [] if row in is_open else group
    head_KHW = model.head(model.norm(full_ND)[None], models.GRID, skips)[0]
    canvas_1KHW = torch.nn.functional.interpolate(
        canvas_NK.T.unflatten(1, models.GRID)[None], scale_factor=8.0, mode="bilinear"
    )
    for cell in closed:
        rows, columns = (slice(8 * place, 8 * place + 8) for place in divmod(cell, models.GRID[1]))
        head_KHW[:, rows, columns] = canvas_1KHW[0, :, rows, columns]
    return head_KHW


# decisions: superpatches, gate before 1, exit before 2, gate before 2, gate before 3
@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        (SUPERPATCHES | GATES | EXIT, [15, 9, 11, 7, 4]),
        (SUPERPATCHES | GATES | EXIT, [12, 2, 12, 12, 1]),
        (SUPERPATCHES | GATES | EXIT, [24, 24, 10, 4, 9]),
        (SUPERPATCHES | EXIT, [15, 8]),
        (GATES | EXIT, [16, 12, 5, 9]),
        (GATES | EXIT, [5, 20, 20, 3]),
        (SUPERPATCHES | GATES, [18, 9, 2, 13]),
    ],
)
@torch.no_grad()
def test_both_forms_are_the_plain_network_on_a_list_of_tokens(parts: dict[str, Any], counts: list[int]) -> None:
    model, made = combined(**parts)
    assert made.schedule.round_up(counts) == tuple(counts)
    for image_3HW, forms in both_forms(model, counts):
        check_logits(forms, by_loops(model, image_3HW, counts))


def test_decisions_stand_in_the_order_of_their_blocks_an_exit_before_a_gate() -> None:
    made = policy(levels=[[2, 0.3], [4, 0.3]], exits={"exits": [6, 8], "keep": [0.8, 0.6]}, gates={"first": 5})
    assert (
        made.gated == (0, 0, 5, 6, 6, 7, 8, 8, 9, 10, 11)
        and made.schedule.chosen_by == 1
        and made.schedule.trunk_depth == 0
    )
    kinds = [each.kind for each in made.decisions[2:8]]
    assert kinds == [Kind.GATE, Kind.EXIT, Kind.GATE, Kind.GATE, Kind.EXIT, Kind.GATE]
    assert policy(exits={}, gates={"first": 3}).schedule.trunk_depth == 3
    assert policy(exits={"exits": [2]}, gates={"first": 3}).schedule.trunk_depth == 2


def test_ratios_are_of_the_tokens_that_are_there() -> None:
    made = policy(
        levels=[[4, 0.5]], exits={"exits": [6], "keep": [0.8]}, gates={"first": 5, "keep": [0.5, 0.5, 0.25, 0.25]}
    )
    left = 1 - 0.5 * 15 / 16
    expected = (left, 0.5 * left, 0.8 * left, 0.4 * left, 0.4 * left, 0.4 * left, 0.2 * left, 0.2 * left, 0.2 * left)
    assert made.schedule.target_shares == pytest.approx(expected)
    counts = made.schedule.target_counts
    assert made.schedule.round_up(counts) == tuple(counts)
    assert made.schedule.block_counts(counts)[4:8] == (counts[0], counts[1], counts[3], counts[4])


def test_no_gate_keeps_more_than_an_exit_leaves() -> None:
    made = policy(exits={"exits": [6]}, gates={"first": 5})
    # a gate behind that wants 700 makes the exit leave as many
    assert made.schedule.round_up([100, 300, 200, 700, 50, 50, 50, 50]) == (100, 700, 200, 700, 50, 50, 50, 50)
    assert made.schedule.round_up([768] * 8) == (768,) * 8


def test_what_a_gate_is_not_offered() -> None:
    """Tokens that left, and all but one of a merged group."""
    model, made = combined(**SUPERPATCHES, **EXIT, **GATES)
    counts = [15, 15, 8, 4, 4]
    top, offered = select_top(made.schedule.candidates(counts)), {}

    def watched(place: int, scores_BS: Tensor) -> Tensor:
        offered[place] = (scores_BS > -1e3).sum(-1).tolist()
        return top(place, scores_BS)

    with torch.no_grad():
        model(models.images(2), watched)
    assert offered == {0: [6, 6], 1: [15, 15], 2: [15, 15], 3: [8, 8], 4: [8, 8]}


def test_every_part_learns_and_a_share_of_the_batch_keeps_everything() -> None:
    model, made = combined(**SUPERPATCHES, **EXIT, gates={"first": 1, "full": 0.5})
    model.train()
    torch.manual_seed(0)
    prediction = model(models.images(4), None, labels(4))
    (prediction.raw.square().mean() + prediction.masked.loss).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert float(parameter.grad.abs().sum()) > 0 or "norm.bias" in name, name
    for keep_BN in prediction.masked.keep_GBN:
        assert (keep_BN[:2] == 1).all() and (keep_BN[2:].sum(-1) < models.N).all()


def test_an_image_whose_every_token_left_has_a_finite_loss() -> None:
    model, _ = combined(**SUPERPATCHES, **EXIT, **GATES)
    model.train()
    masked = model(models.images(2), select_none, labels(2)).masked
    assert [float(keep_BN.sum()) for keep_BN in masked.keep_GBN[2:]] == [0, 0, 0]
    assert torch.isfinite(masked.loss)


def test_bad_combinations_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match="no exits, no gates and no superpatches: nothing is left to decide"):
        policy()
    with pytest.raises(InputError, match="policy combined: gates.first"):
        policy(gates={"first": 0})
    with pytest.raises(InputError, match="policy combined: unknown key 'gate'.*did you mean 'gates'"):
        policy(gate={"first": 3})
    with pytest.raises(InputError, match="gates have no form with merging or exits"):
        policy(gates={"gate": "dynamicvit"})

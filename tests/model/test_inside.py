"""A model that looks at a region of the frame alone."""

from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.data.region import Region
from edgeprune.model.inside import Inside
from edgeprune.pruning.cells import patches_of
from tests import models

ALL = Region(("######",) * 4)
RAGGED = Region(("......", "..##..", ".#####", "####.."))
LOWER = Region(("......", "......", "######", "######"))


@pytest.mark.parametrize("side", [1, 2])
def test_its_own_grid_has_each_token_inside_once(side: int) -> None:
    inside = Inside.of(RAGGED, side)
    number_K = inside.numbers()
    assert inside.grid == (side, inside.region.tokens // side)
    assert sorted(number_K.tolist()) == inside.region.inside_GG.flatten().nonzero()[0].tolist()


def test_cells_of_its_own_grid_are_cells_of_the_frame() -> None:
    inside = Inside.of(Region(("........",) * 4 + ("...#....",) + ("........",) * 2 + ("#......#",)), 4)
    device = torch.device("cpu")
    for side in (4, 2, 1):
        frames_SP = patches_of(inside.region.grid, side, device).index_select(0, inside.numbers(side))
        own_SP = patches_of(inside.grid, side, device)
        assert torch.equal(inside.numbers()[own_SP], frames_SP)


@pytest.mark.parametrize("side", [1, 2])
def test_rows_lead_back_to_the_frame(side: int) -> None:
    inside = Inside.of(RAGGED, side)
    number_K, row_N = inside.numbers(), inside.rows()
    assert row_N[number_K].tolist() == list(range(len(number_K)))
    assert (row_N == len(number_K)).tolist() == (~inside.region.inside_GG).flatten().tolist()


@pytest.mark.parametrize("policy", ["svit", "cts-svit"])
def test_a_region_of_all_patches_is_none(policy: str) -> None:
    whole, restricted = (models.model(models.card(policy)) for _ in range(2))
    restricted.restrict(ALL)
    restricted.restrict(None)
    assert restricted.inside is None and restricted.policy.tokens == models.N
    assert torch.equal(whole(models.images(1)).raw, restricted(models.images(1)).raw)


@pytest.mark.parametrize("policy", ["dense", "svit", "cts-svit", "uniform"])
def test_what_is_outside_changes_nothing_inside(policy: str) -> None:
    """With a stem of patches, and gates that look at tokens: the CNN of superpatches sees the frame over their borders."""
    options: dict[str, Any] = {"merged": 1.0} if policy == "cts-svit" else {}
    model = models.model(models.card(policy, **options))
    model.restrict(LOWER)
    images_13HW = models.images(1)
    with torch.no_grad():
        before = model(images_13HW)
        images_13HW[:, :, : models.HEIGHT // 2] = 255 - images_13HW[:, :, : models.HEIGHT // 2]
        after = model(images_13HW)
    assert torch.equal(before.raw, after.raw) and before.x_BND.shape == (1, 12, 192)
    images_13HW[:, :, models.HEIGHT // 2 :] = 255 - images_13HW[:, :, models.HEIGHT // 2 :]
    assert not torch.equal(model(images_13HW).raw, after.raw)


def test_extra_tokens_stay_beside_those_inside() -> None:
    model = models.model(models.card("svit", extra=2))
    model.restrict(LOWER)
    assert model.policy.schedule.extra_rows == 2
    assert model.trunk(torch.from_numpy(models.frames(1)[0]))[0].shape == (2 + 12, 192)


def test_a_region_that_does_not_fit_is_refused() -> None:
    model = models.model(models.card("svit", depth=2))
    with pytest.raises(
        InputError, match="a region of 2x3 patches, the model has 4x6; calibrate this model with --region"
    ):
        model.restrict(Region(("###",) * 2))

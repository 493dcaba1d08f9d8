"""What a frame computes where the ones before are remembered, against ways written from the papers."""

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import TURN, group_tokens, groups_of, phases
from edgeprune.export.graphs import DenseGraph
from edgeprune.lab.through_time.carriers import KeysAndValues
from edgeprune.model.memory import Remembering, State, embedding_scale, state_names
from tests import models

REFRESH = 8
NONE_DUE = torch.tensor([0.0, 0.0])


def remembering(groups: int = 2) -> Remembering:
    return Remembering(models.model(models.card("dense", depth=3)), 1.0, REFRESH, groups)


def test_all_tokens_are_the_dense_network() -> None:
    ours = remembering()
    frame_HW3 = torch.from_numpy(models.frames(1)[0])
    with torch.no_grad():
        x_ND, skips, _ = ours.trunk(frame_HW3, torch.zeros(models.N, 192), NONE_DUE)
        labels_HW = ours.model.head.decide(ours.answer(ours.whole(x_ND), skips))[0]
        (dense_HW,) = DenseGraph(ours.model, 3, "onnxruntime")(frame_HW3)
    assert torch.equal(labels_HW.to(torch.uint8), dense_HW)


@pytest.mark.parametrize("count", [1, 7, models.N])
def test_some_tokens_are_those_of_the_slow_way(count: int) -> None:
    """`KeysAndValues` is written from Eventful Transformers' gate and buffer, block by block, without a graph in mind."""
    ours = remembering(groups=1)
    slow = KeysAndValues(ours.model.blocks, count, ours.model.grid)
    state: State | None = None
    with torch.no_grad():
        for number, frame_HW3 in enumerate(models.frames(4)):
            seen_ND = torch.zeros(models.N, 192) if state is None else state.seen_ND
            x_ND, _, score_N = ours.trunk(torch.from_numpy(frame_HW3), seen_ND, NONE_DUE)
            if state is None:
                state = ours.whole(x_ND)
            else:
                state, chosen_GK = ours.some(x_ND, score_N, state, count)
                assert len(set(chosen_GK[0].tolist())) == count
            torch.testing.assert_close(state.final_ND, slow.features(x_ND), rtol=1e-4, atol=1e-4)
            assert slow.frames == number + 1


def test_tokens_have_their_turn_before_all_others_the_longest_waiting_first() -> None:
    ours = remembering()
    frame_HW3 = torch.from_numpy(models.frames(1)[0])
    phase_N = phases(group_tokens(models.GRID, 2), REFRESH)
    with torch.no_grad():
        _, _, score_N = ours.trunk(frame_HW3, torch.zeros(models.N, 192), torch.tensor([6.0, 3.0]))
    due_N = score_N.numpy() >= TURN
    assert set(phase_N[due_N]) == {6, 7, 0} and not set(phase_N[~due_N]) & {6, 7, 0}
    longest = phase_N[np.argsort(-score_N.numpy(), kind="stable")[: due_N.sum()]].tolist()
    assert longest == sorted(longest, key=[6, 7, 0].index)


def test_a_block_attends_to_the_group_that_it_keeps_and_to_what_is_computed() -> None:
    """Each block by hand: all tokens of the frame before, of which some are replaced; which a block may see, and how often one
    counts."""
    ours = remembering()
    first_HW3, second_HW3 = (torch.from_numpy(frame_HW3) for frame_HW3 in models.frames(2))
    tokens_GM = group_tokens(ours.model.grid, 2)
    with torch.no_grad():
        x_ND, _, _ = ours.trunk(first_HW3, torch.zeros(models.N, 192), NONE_DUE)
        state, before_ND = ours.whole(x_ND), x_ND
        x_ND, _, score_N = ours.trunk(second_HW3, state.seen_ND, NONE_DUE)
        after, chosen_GK = ours.some(x_ND, score_N, state, 8)
        index_K = torch.from_numpy(tokens_GM).gather(1, chosen_GK).flatten()
        assert all(cache.shape == (1, 3, models.N // 2, 64) for cache in (*state.keys, *state.values))
        now_ND = before_ND.clone()
        now_ND[index_K] = x_ND[index_K]
        for number, block in enumerate(ours.model.blocks):
            is_seen_N, counts_N = torch.zeros(models.N, dtype=torch.bool), torch.full((models.N,), 2.0)
            is_seen_N[tokens_GM[number % 2]] = is_seen_N[index_K] = True
            counts_N[index_K] = 1.0
            computed_ND = block(now_ND, is_seen_N, counts_N.log())
            before_ND = block(before_ND)
            now_ND = before_ND.clone()
            now_ND[index_K] = computed_ND[index_K]
    torch.testing.assert_close(state.final_ND, before_ND, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.final_ND, now_ND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_state_is_replaced_where_tokens_are_computed_and_nowhere_else(groups: int) -> None:
    ours = remembering(groups)
    first_HW3, second_HW3 = (torch.from_numpy(frame_HW3) for frame_HW3 in models.frames(2))
    with torch.no_grad():
        x_ND, _, _ = ours.trunk(first_HW3, torch.zeros(models.N, 192), NONE_DUE)
        before = ours.whole(x_ND)
        x_ND, _, score_N = ours.trunk(second_HW3, before.seen_ND, NONE_DUE)
        after, chosen_GK = ours.some(x_ND, score_N, before, 6)
    tokens_GM = group_tokens(ours.model.grid, groups)
    in_groups = [set(chosen_K.tolist()) for chosen_K in chosen_GK]
    in_grid = {int(tokens_GM[group, place]) for group, places in enumerate(in_groups) for place in places}
    for group_M, best_K in zip(tokens_GM, in_groups, strict=True):
        assert best_K == set(score_N[group_M].topk(6 // groups).indices.tolist())
    assert len(state_names(3)) == len(after.tensors()) == len(before.tensors())
    for name, old, new in zip(state_names(3), before.tensors(), after.tensors(), strict=True):
        moved = set((old != new).any(-1).nonzero()[:, -1].tolist())
        number = name.removeprefix("keys").removeprefix("values")
        assert moved == (in_groups[int(number) % groups] if number.isdigit() else in_grid), name


@pytest.mark.parametrize("grid", [(24, 32), (4, 6), (3, 8), (25, 28)])
def test_groups_are_the_colours_of_a_checkerboard_and_have_their_turns_alike(grid: tuple[int, int]) -> None:
    tokens_GM = group_tokens(grid, groups_of(grid))
    row_GM, column_GM = np.divmod(tokens_GM, grid[1])
    assert ((row_GM + column_GM) % 2 == [[0], [1]]).all()
    assert sorted(tokens_GM.ravel()) == list(range(grid[0] * grid[1]))
    phase_GM = phases(tokens_GM, 16)[tokens_GM]
    assert (phase_GM == phase_GM[0]).all() and np.ptp(np.bincount(phase_GM[0], minlength=16)) <= 2


def test_of_an_odd_number_of_tokens_all_are_one_group() -> None:
    assert groups_of((3, 5)) == 1 and group_tokens((3, 5), 1).tolist() == [list(range(15))]
    with pytest.raises(InputError, match="a grid of 3x5 patches has no 2 groups of one size"):
        group_tokens((3, 5), 2)


def test_every_token_has_one_turn_and_turns_are_alike() -> None:
    found = np.bincount(phases(np.arange(768)[None], 128), minlength=128)
    assert found.sum() == 768 and found.min() >= 5 and found.max() <= 7


def test_distances_are_in_those_of_two_scenes() -> None:
    model = models.model(models.card("dense", depth=3))
    frames = [torch.from_numpy(frame_HW3) for frame_HW3 in models.frames(5)]
    with torch.no_grad():
        ours = Remembering(model, embedding_scale(model, frames), REFRESH)
        seen_ND, _, _ = ours.trunk(frames[0], torch.zeros(models.N, 192), NONE_DUE)
        _, _, same_N = ours.trunk(frames[0], seen_ND, NONE_DUE)
        _, _, other_N = ours.trunk(frames[1], seen_ND, NONE_DUE)
    assert same_N.max() == 0 and 0.3 < other_N.median() < 3


def test_tokens_beside_the_grid_are_refused() -> None:
    model = models.model(models.card("dense", depth=3))
    model.spec = model.spec.model_copy(update={"extra_tokens": 2})
    with pytest.raises(
        InputError, match="--memory is for models of the whole grid and nothing else, this one has 2 extra"
    ):
        Remembering(model, 1.0, REFRESH)

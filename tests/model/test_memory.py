"""What a frame computes where the ones before are remembered, against ways written from the papers."""

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import TURN, phases
from edgeprune.export.graphs import DenseGraph
from edgeprune.lab.through_time.carriers import KeysAndValues
from edgeprune.model.memory import Remembering, State, embedding_scale, state_names
from tests import models

REFRESH = 8
NONE_DUE = torch.tensor([0.0, 0.0])


def remembering(refresh: int = REFRESH) -> Remembering:
    return Remembering(models.model(models.card("dense", depth=3)), 1.0, refresh)


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
    ours = remembering()
    slow = KeysAndValues(ours.model.blocks, count)
    state: State | None = None
    with torch.no_grad():
        for number, frame_HW3 in enumerate(models.frames(4)):
            seen_ND = torch.zeros(models.N, 192) if state is None else state.seen_ND
            x_ND, _, score_N = ours.trunk(torch.from_numpy(frame_HW3), seen_ND, NONE_DUE)
            if state is None:
                state = ours.whole(x_ND)
            else:
                state, index_K = ours.some(x_ND, score_N, state, count)
                assert len(set(index_K.tolist())) == count
            torch.testing.assert_close(state.final_ND, slow.features(x_ND), rtol=1e-4, atol=1e-4)
            assert slow.frames == number + 1


def test_a_state_is_replaced_where_tokens_are_computed_and_nowhere_else() -> None:
    ours = remembering()
    first_HW3, second_HW3 = (torch.from_numpy(frame_HW3) for frame_HW3 in models.frames(2))
    with torch.no_grad():
        x_ND, _, _ = ours.trunk(first_HW3, torch.zeros(models.N, 192), NONE_DUE)
        before = ours.whole(x_ND)
        x_ND, _, score_N = ours.trunk(second_HW3, before.seen_ND, NONE_DUE)
        after, index_K = ours.some(x_ND, score_N, before, 5)
    chosen = set(index_K.tolist())
    assert len(state_names(3)) == len(after.tensors()) == len(before.tensors())
    for old, new in zip(before.tensors(), after.tensors(), strict=True):
        tokens = set((old != new).any(-1).nonzero()[:, -1].tolist())  # the last axis but one is that of tokens
        assert tokens == chosen, old.shape


def test_tokens_have_their_turn_before_all_others_the_longest_waiting_first() -> None:
    ours = remembering()
    frame_HW3 = torch.from_numpy(models.frames(1)[0])
    phase_N = phases(models.N, REFRESH)
    with torch.no_grad():
        _, _, score_N = ours.trunk(frame_HW3, torch.zeros(models.N, 192), torch.tensor([6.0, 3.0]))
    due_N = score_N.numpy() >= TURN
    assert set(phase_N[due_N]) == {6, 7, 0} and not set(phase_N[~due_N]) & {6, 7, 0}
    longest = phase_N[np.argsort(-score_N.numpy(), kind="stable")[: due_N.sum()]].tolist()
    assert longest == sorted(longest, key=[6, 7, 0].index)


def test_every_token_has_one_turn_and_turns_are_alike() -> None:
    found = np.bincount(phases(768, 128), minlength=128)
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

"""The training form of memory between frames is that of its graphs, and teaches what is carried."""

import pytest
import torch
from torch import Tensor

from edgeprune.model.carried import Before, carry
from edgeprune.model.memory import Remembering
from tests import models

NONE_DUE = torch.tensor([0.0, 0.0])


@pytest.mark.parametrize("count", [1, 7, models.N])
def test_it_is_the_form_of_graphs_frame_by_frame(count: int) -> None:
    """`Remembering` computes one frame at a time and keeps a state; this is given both frames, of a batch."""
    model = models.model(models.card("dense", depth=3))
    graphs, frames = Remembering(model, 1.0, 8, groups=1), models.frames(4)
    chosen: list[Tensor] = []

    def choose(before_BND: Tensor, now_BND: Tensor) -> Tensor:
        chosen.append((now_BND - before_BND).norm(dim=-1).topk(count, dim=-1).indices)
        return chosen[0]

    images_43HW = models.images(4)
    with torch.no_grad():
        ours = model(images_43HW[2:], before=Before(images_43HW[:2], choose))
        for index in range(2):
            x_ND, _, _ = graphs.trunk(torch.from_numpy(frames[index]), torch.zeros(models.N, 192), NONE_DUE)
            state = graphs.whole(x_ND)
            x_ND, skips, score_N = graphs.trunk(torch.from_numpy(frames[index + 2]), state.seen_ND, NONE_DUE)
            state, chosen_GK = graphs.some(x_ND, score_N, state, count)
            assert set(chosen_GK[0].tolist()) == set(chosen[0][index].tolist())
            torch.testing.assert_close(ours.raw[index : index + 1], graphs.answer(state, skips), rtol=1e-3, atol=1e-4)


def test_what_is_carried_learns_from_the_frame_that_it_is_carried_to() -> None:
    model = models.model(models.card("dense", depth=3))
    before_BND, now_BND = (model.embed(models.images(4)[place])[0].detach() for place in (slice(0, 2), slice(2, 4)))
    before_BND, now_BND = before_BND.requires_grad_(), now_BND.requires_grad_()
    index_BK = torch.tensor([[3, 5], [3, 7]])
    of_BND = carry(model.blocks, before_BND, now_BND, lambda before, now: index_BK)
    of_BND[0, 4].sum().backward()  # a carried token
    assert before_BND.grad is not None and before_BND.grad[0].abs().sum() > 0 and before_BND.grad[1].abs().sum() == 0
    assert now_BND.grad is not None and now_BND.grad.abs().sum() == 0  # nothing that came later made it
    before_BND.grad = None
    carry(model.blocks, before_BND, now_BND, lambda before, now: index_BK)[0, 5].sum().backward()  # a computed one
    moved_N = now_BND.grad[0].abs().sum(-1)
    assert set(moved_N.nonzero().flatten().tolist()) == {3, 5}
    assert before_BND.grad is not None and before_BND.grad[0].abs().sum() > 0  # by keys and values


def test_a_policy_has_a_gradient_of_nothing_beside_it() -> None:
    """Processes that share a batch wait for the gradient of each parameter."""
    model = models.model(models.card("svit")).train()
    images_23HW = models.images(2)
    answer = model(images_23HW, before=Before(images_23HW, lambda before, now: torch.zeros(2, 1, dtype=torch.long)))
    (answer.raw.sum() + answer.masked.loss).backward()
    assert answer.masked.keep_GBN == []
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.policy.parameters())

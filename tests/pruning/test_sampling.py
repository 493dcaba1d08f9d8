"""Which images of a training batch are whole, sampled or of few tokens: the same, however many parts and processes share it."""

import pytest
import torch
from torch import Tensor

from edgeprune.model import global_batch
from edgeprune.model.global_batch import batch_mean, part_of_step, squared_gap
from edgeprune.pruning.methods.svit import SViTOptions
from edgeprune.pruning.sampling import Shares
from tests import models


def kinds(options: SViTOptions, images: int, parts: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of each image of a step in the order of the loader: w(hole), s(ampled) or f(ew)."""
    found = ""
    monkeypatch.setattr(global_batch, "processes", lambda: processes)
    for part in range(parts):
        for rank in range(processes):
            monkeypatch.setattr(global_batch, "own_place", lambda rank=rank: rank)
            with part_of_step(part, parts):
                shares = options.shares(images // (parts * processes))
            sampled = images // (parts * processes) - shares.whole - shares.few
            assert sampled >= 0
            found += "w" * shares.whole + "s" * sampled + "f" * shares.few
    return found


@pytest.mark.parametrize(
    ("full", "least", "images", "expected"),
    [
        (0.125, None, 8, "wsssssss"),
        (0.125, 0.2, 8, "wsssssff"),
        (0.0, None, 8, "ssssssss"),
        (0.75, 0.2, 8, "wwwwwwsf"),  # one is always sampled, of which the gates learn
        (0.99, 0.2, 4, "wwws"),
    ],
)
@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (2, 2)])
def test_a_step_is_shared_out_as_a_whole(
    full: float,
    least: float | None,
    images: int,
    expected: str,
    parts: int,
    processes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = SViTOptions(full=full, least=least)
    assert kinds(options, images, parts, processes, monkeypatch) == expected


@pytest.mark.parametrize(("full", "least"), [(0.25, 0.2), (0.125, None), (0.0, None)])
def test_gates_learn_as_much_of_a_step_in_parts(full: float, least: float | None) -> None:
    """A part without a sampled image teaches them nothing, and the others count for it."""
    options, images = SViTOptions(full=full, least=least), 8
    for parts in (1, 2, 4, 8):
        weighted = 0.0
        for part in range(parts):
            with part_of_step(part, parts):
                shares = options.shares(images // parts)
            sampled = images // parts - shares.whole - shares.few
            assert (shares.weight > 0) == (sampled > 0)
            weighted += shares.weight / parts
        assert weighted == pytest.approx(1.0)


def test_what_is_between_is_sampled() -> None:
    assert list(range(8))[Shares(1, 2).sampled(8)] == [1, 2, 3, 4, 5]
    assert list(range(2))[Shares(2, 0).sampled(2)] == [] == list(range(2))[Shares(0, 2).sampled(2)]


def test_parts_do_not_outlive_their_step() -> None:
    with part_of_step(1, 4), part_of_step(2, 3):
        assert global_batch.place_in_step(2)[:2] == (4, 6)
    assert global_batch.place_in_step(2)[:2] == (0, 2)


def test_no_images_are_no_mean_and_no_gap() -> None:
    """A part of a step may have no sampled image: its gates then learn nothing from it, and nothing becomes no number."""
    keep_BN = torch.rand(3, 5, requires_grad=True)
    torch.testing.assert_close(batch_mean(keep_BN), keep_BN.mean())
    torch.testing.assert_close(squared_gap(keep_BN, 0.3), (keep_BN.mean() - 0.3).square())
    nothing: Tensor = batch_mean(keep_BN[:0]) + squared_gap(keep_BN[:0], 0.3)
    nothing.backward()
    assert nothing.item() == 0 and keep_BN.grad is not None and not keep_BN.grad.any()


@pytest.mark.parametrize("policy", ["svit", "combined"])
def test_a_part_that_is_all_whole_trains(policy: str) -> None:
    gates = {"full": 0.9, "least": 0.5}
    model = models.model(models.card(policy, **(gates if policy == "svit" else {"gates": gates}))).train()
    with part_of_step(0, 4):
        masked = model(models.images(2)).masked
    masked.loss.backward()
    assert masked.loss.item() == 0
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())

"""Processes that read frames: how many batches they may hand over in shared memory, and what is said when one fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError, RunError
from edgeprune.data import Sample
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.street import StreetSamples
from edgeprune.train import batches
from edgeprune.train.batches import AHEAD, Mixture, MixtureSampler, load_batches
from edgeprune.train.recipe import Mix
from tests import models

EACH = 2 * 4 * models.HEIGHT * models.WIDTH  # bytes of a batch of two images and labels


def sampler() -> MixtureSampler:
    return MixtureSampler([Mix(data="street")], [6], batch=2, steps=3, seed=0)


def mixture(samples: Any = None) -> Mixture:
    street = samples or StreetSamples(0, 6, models.HEIGHT, models.WIDTH)
    return Mixture([street], Preprocess(models.HEIGHT, models.WIDTH), ignore_index=11)


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of each loader that is made; none starts a process."""
    made: list[dict[str, Any]] = []

    def make(_: Mixture, **settings: Any) -> list[Any]:
        made.append(settings)
        return []

    monkeypatch.setattr(batches, "DataLoader", make)
    return made


@pytest.mark.parametrize(
    ("free", "workers", "ahead"),
    [
        (None, 2, AHEAD),  # not known
        (100 * EACH, 2, AHEAD),
        (11 * EACH, 2, AHEAD),  # two workers: four each and one that is filled, and one that is trained on
        (10.9 * EACH, 2, 3),
        (5 * EACH, 2, 1),
        (4.9 * EACH, 0, None),
        (0, 0, None),
    ],
)
def test_as_many_batches_are_prepared_as_shared_memory_holds(
    loaders: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    free: float | None,
    workers: int,
    ahead: int | None,
    said: list[str],
) -> None:
    monkeypatch.setattr(batches, "free_shared_bytes", lambda: free)
    said.clear()
    list(load_batches(mixture(), sampler(), 2))
    assert (loaders[0]["num_workers"], loaders[0]["prefetch_factor"]) == (workers, ahead)
    assert len(said) == (workers == 0)
    if said:
        assert "frames are read in this process" in said[0] and "--shm-size" in said[0] and "workers: 0" in said[0]


def test_without_workers_shared_memory_is_of_no_concern(
    loaders: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "free_shared_bytes", lambda: pytest.fail("looked at"))
    list(load_batches(mixture(), sampler(), 0))
    assert loaders[0]["num_workers"] == 0


def test_a_machine_without_shared_memory_has_none_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SHARED", str(tmp_path / "nowhere"))
    monkeypatch.setattr(batches.sys, "platform", "linux")
    assert batches.free_shared_bytes() == 0
    monkeypatch.setattr(batches.sys, "platform", "darwin")
    assert batches.free_shared_bytes() is None


class Noise(StreetSamples):
    """Frames that hang on nothing but their number."""

    def __getitem__(self, index: int) -> Sample:
        image_HW3 = np.random.default_rng(index).integers(0, 256, (models.HEIGHT, models.WIDTH, 3), np.uint8)
        return Sample(str(index), image_HW3, image_HW3[..., 0] % 11)


def test_batches_are_the_same_with_and_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(free: int) -> list[torch.Tensor]:
        monkeypatch.setattr(batches, "free_shared_bytes", lambda: free)
        return [part for batch in load_batches(mixture(), sampler(), 1) for part in batch]

    here, there = drawn(0), drawn(1 << 30)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(here, there, strict=True))
    assert not torch.equal(here[0], here[2])


class Lost(StreetSamples):
    """A set whose files went away while it was read."""

    def __getitem__(self, index: int) -> Sample:
        raise InputError("image a.png is not there any more; was the data set moved?")


def test_what_a_worker_raises_is_the_one_line_that_it_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "free_shared_bytes", lambda: 1 << 30)
    for workers in (0, 1):
        with pytest.raises(InputError) as found:
            list(load_batches(mixture(Lost(0, 6, models.HEIGHT, models.WIDTH)), sampler(), workers))
        assert str(found.value) == "image a.png is not there any more; was the data set moved?"


def test_a_killed_worker_is_one_line_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises when the kernel ends a worker for want of shared memory."""

    def make(*_: Any, **__: Any) -> Iterator[Any]:
        raise RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
            "shared memory. Please try to raise your shared memory limit.\n"
        )
        yield

    monkeypatch.setattr(batches, "DataLoader", make)
    with pytest.raises(RunError, match="killed .*Bus error.*set workers: 0, or give a container more") as found:
        list(load_batches(mixture(Noise(0, 6, models.HEIGHT, models.WIDTH)), sampler(), 1))
    assert "\n" not in str(found.value)

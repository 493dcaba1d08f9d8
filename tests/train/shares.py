"""Phases trained by one process or by several, with every step's loss.

What several processes draw differs from what one draws, so here nothing is drawn but what can be shared: no augmentation, no
drop path, and the noise of gates is that of the whole batch, of which each process takes its rows; where one process takes
its batch in the parts that two have, it is a constant.
"""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from nncf.torch.quantization.layers import SymmetricQuantizer
from torch import Tensor

from edgeprune.model.checkpoint import save
from edgeprune.quantize.loading import make_model
from edgeprune.train.augment import Augment
from edgeprune.train.backend import make_backend
from edgeprune.train.history import History
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Recipe
from edgeprune.train.trainer import Trainer
from tests import models

STEPS, BATCH = 20, 4
LR = 2e-4  # of the shipped recipe; at 1e-3 this untrained model makes of a rounding 5e-5 of the loss in 20 steps
EVERYTHING = {
    "distill": 0.5,
    "distill_tokens": 0.5,
    "class_balance": 0.5,
    "label_smoothing": 0.1,
    "jaccard": 0.5,
    "dice": 0.5,
}
PHASES: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense", "accumulate": 2},
    # the hardest half of each image, of whose last pixels it matters little which is the last
    "sparse": {"kind": "sparse", "options": {"full": 0.25}, "ohem": {"threshold": 0.01, "least": 0.5}},
    "cts": {"kind": "sparse", "policy": {"name": "cts-svit", "options": {"first": 2}}, "accumulate": 2},
    "dynaprune": {"kind": "sparse", "policy": {"name": "dynaprune", "options": {"first": 1, "keep": [0.7]}}},
    "qat": {"kind": "qat", "lr": 5e-5, "freeze": 1, "auxiliary": {"blocks": [2]}},
    "rounded": {"kind": "qat", "lr": 5e-5},
    "in-parts": {"kind": "qat", "lr": 5e-5},
}


def recipe(folder: Path, **changes: Any) -> Recipe:
    """Every phase begins with one dense checkpoint, and learns from it."""
    start = folder / "start.safetensors"
    if not start.is_file():
        card = models.card("dense", depth=3, stem="conv")
        torch.manual_seed(0)
        save(start, card, make_model(card).state_dict())
    content = models.recipe(folder).model_dump()
    phase = content["phases"]["dense"] | {"frames": STEPS * BATCH, "batch": BATCH, "lr": LR, "start": str(start)}
    phase |= {"teacher": str(start), **EVERYTHING}
    # a range that clips gives what lies at its edge a gradient or none, as a last bit of FP32 has it
    content["calibration"] |= {"percentile": 100}
    content["phases"] = {name: phase | of_kind for name, of_kind in PHASES.items()}
    return Recipe.model_validate(content | changes)


class Stopped(Exception):
    """A phase was stopped where it should be."""


def losses_of(trainer: Trainer, stop_at: int | None = None) -> list[float]:
    """Trains the phase; the mean over processes of every step's loss.

    Args:
        stop_at: the step at which the phase is saved and stopped; None: it is not.
    """
    losses: list[Tensor] = []
    add, step = History.add, trainer.step
    index, processes = trainer.backend.index, trainer.backend.processes
    shared = torch.Generator()

    def listen(history: History, loss_P: Tensor, keep: Tensor) -> None:
        losses.append(loss_P.mean())
        add(history, loss_P, keep)

    def own_rows(x_BN: Tensor) -> Tensor:
        if trainer.run.name == "in-parts":
            return torch.full_like(x_BN, 0.5)
        rows = len(x_BN)
        return torch.rand(rows * processes, *x_BN.shape[1:], generator=shared)[index * rows : (index + 1) * rows]

    def seeded_step(number: int, batch: Any) -> None:
        shared.manual_seed(trainer.run.seed_of(number))
        step(number, batch)

    def without(self: Augment, images_B3HW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """A corner, for speed. Of each image other rows are ignored, so that shares of labelled pixels differ."""
        images_B3HW, labels_BHW = images_B3HW[:, :, :32, :64], labels_BHW[:, :32, :64]
        rows = images_B3HW.flatten(1).sum(1) % 24
        labels_BHW = labels_BHW.long()
        for label_HW, first in zip(labels_BHW, rows.tolist(), strict=True):
            label_HW[: int(first)] = self.ignore_index
        return images_B3HW.float(), labels_BHW

    keep = trainer._save

    def save_and_stop() -> None:
        keep()
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "add", listen)
        patch.setattr(trainer, "step", seeded_step)
        patch.setattr(torch, "rand_like", own_rows)
        patch.setattr(Augment, "forward", without)
        if trainer.run.name == "qat":  # INT8 codes make of a rounding of FP32 a step of INT8
            patch.setattr(SymmetricQuantizer, "quantize", clamped)
        if stop_at is not None:
            patch.setattr(trainer, "_due", lambda: (False, False, trainer.history.step == stop_at))
            patch.setattr(trainer, "_save", save_and_stop)
        with suppress(Stopped):
            trainer.train()
    return torch.stack(losses).tolist()


def clamped(quantizer: Any, x: Tensor) -> Tensor:
    """What `quantize` does, but for the rounding."""
    scale = quantizer.scale.abs()
    return x.clamp(-scale, scale)


def train_phases(made: Recipe, out: Path, phases: list[str], stop_at: int | None = None) -> dict[str, list[float]]:
    """The losses of each phase, in this process or this process's share."""
    backend, scenes = make_backend("cpu", False), out.parent / "scenes"
    return {
        name: losses_of(Trainer(PhaseRun(made, name, out), backend, [1 / 11] * 11, scenes), stop_at) for name in phases
    }


@contextmanager
def launched(processes: int, target: Callable[..., None], *given: Any) -> Iterator[None]:
    """Meanwhile so many processes call `target(*given)`, as a launcher would start them, on a free port. They are forked: what
    is imported here need not be imported again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def run(index: int) -> None:
        os.environ |= shared | {"RANK": str(index), "LOCAL_RANK": str(index), "OMP_NUM_THREADS": "1"}
        target(*given)
        dist.destroy_process_group()

    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=run, args=(index,)) for index in range(processes)]
    for process in started:
        process.start()
    try:
        yield
        for process in started:
            process.join(600)
    finally:
        for process in started:
            process.kill()
    assert [process.exitcode for process in started] == [0] * processes


def write_losses(made: Recipe, out: Path, phases: list[str], stop_at: int | None = None) -> None:
    """`train_phases`, into `losses.json`."""
    found = train_phases(made, out, phases, stop_at)
    if os.environ["RANK"] == "0":
        (out / "losses.json").write_text(json.dumps(found))

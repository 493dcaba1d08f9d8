"""Where a phase stands, on disk: weights, averaged weights and optimiser state as safetensors, and one small JSON that
names them. The JSON is renamed into place last, so a run killed at any moment resumes from a whole state."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.model.checkpoint import write_safetensors
from edgeprune.model.weight_files import read_safetensors

NAME = "progress.json"
Parts = dict[str, dict[str, Tensor]]  # "weights", "average", "optimiser"


@dataclass
class PhaseState:
    """Steps done, what the phase is made of, seconds spent, and the rows of its history as JSON.

    Attributes:
        fingerprint: of its settings, see `fingerprint.settings_digest`.
        made_of: see `fingerprint.contents_of`; empty in a state of an earlier version.
        watch: the numbers of its `divergence.LossWatch`.
        rollback: why and from where it once went back, and what the learning rate is multiplied by since; None: it never did.
        best: of the validations so far, see `best.Best`; None without one.
    """

    step: int
    fingerprint: str
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    made_of: dict[str, str] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    rollback: dict[str, Any] | None = None
    best: dict[str, Any] | None = None

    def add_row(self, row: dict[str, float]) -> None:
        """Adds a row to the history; the first one after a rollback says from which step the phase went back."""
        if self.rollback is not None and not any("rolled_back_from" in before for before in self.history):
            row = row | {"rolled_back_from": self.rollback["from"]}
        self.history.append(row)

    @property
    def rate(self) -> float:
        """What the learning rate is multiplied by."""
        return 1.0 if self.rollback is None else float(self.rollback["rate"])


def state_tensors(
    weights: Mapping[str, Tensor], average: Mapping[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """All that a phase needs to go on, by the names of the file."""
    moments = optimiser.state_dict()["state"]
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"average/{key}": value for key, value in average.items()}
    return tensors | {
        f"optimiser/{index}/{key}": value for index, slot in moments.items() for key, value in slot.items()
    }


def write_state(folder: Path, state: PhaseState, tensors: dict[str, Tensor]) -> None:
    """Saves where a phase stands, then forgets the state before it."""
    file = f"step-{state.step:07d}.safetensors"
    write_safetensors(folder / file, "training state", tensors)
    content = {"file": file, **vars(state)}
    with write_atomic(folder / NAME, "training state") as partial:
        partial.write_text(json.dumps(content))
    kept = {file, best_file(state.best["step"]) if state.best else None}
    for old in (*folder.glob("step-*.safetensors"), *folder.glob("best-*.safetensors")):
        if old.name not in kept:
            old.unlink()


def best_file(step: int) -> str:
    """The name of the file with the weights that scored best, in the state's folder."""
    return f"best-{step:07d}.safetensors"


def check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Looks at what is about to be saved after a step: a gradient may overflow where no loss does.

    Raises:
        FloatingPointError: a tensor holds infinities or is no number; says which one.
    """
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise FloatingPointError(f"{key} is not finite after step {step}")


def read_state(folder: Path, fingerprint: str) -> tuple[PhaseState, Parts] | None:
    """The saved state and its tensors, or None where there is none.

    Raises:
        InputError: it belongs to another recipe, is of a version that did not say what it was made of, or is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        file = content.pop("file")
        state = PhaseState(**content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"training state {path} is damaged; delete {folder} to begin the phase again") from None
    if not state.made_of:
        raise InputError(
            f"{folder} was saved by an earlier version, which fitted frames to the input in another way and did not say what "
            "the phase was made of; delete it to begin the phase again, or end it with that version"
        )
    if state.fingerprint != fingerprint:
        raise InputError(
            f"{folder} holds a run of another recipe, or of an earlier version; give another --out, or delete it to begin the "
            "phase again"
        )
    parts: Parts = {"weights": {}, "average": {}, "optimiser": {}}
    for key, value in read_safetensors(folder / file).items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    return state, parts


def forget_state(folder: Path) -> None:
    """Removes the state of a phase whose checkpoint is written."""
    if not folder.is_dir():
        return
    for file in (folder / NAME, *folder.glob("step-*.safetensors"), *folder.glob("best-*.safetensors")):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # someone else's files are in it
        folder.rmdir()


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts saved moments and step counts back."""
    state = optimiser.state_dict()
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        slots.setdefault(int(index), {})[name] = value
    state["state"] = slots
    optimiser.load_state_dict(state)

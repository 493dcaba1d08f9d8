"""Events for TensorBoard, by a writer that keeps what it is told.

Its rules are those of torch's page "torch.utils.tensorboard", SummaryWriter: `log_dir`, `purge_step` ("When logging crashes at
step T+X and restarts at step T, any events whose global_step larger or equal to T will be purged"), `add_scalar(tag,
scalar_value, global_step)`, `add_image(tag, img_tensor, global_step, dataformats)` of uint8 where values are 0 to 255.
"""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.tensorboard import EventFile
from tests import models

MODULE = "torch.utils.tensorboard"


class Writer:
    """A SummaryWriter, with the events of all of them by folder."""

    events: dict[str, list[tuple[str, Any, int]]]

    def __init__(self, log_dir: str, purge_step: int | None = None) -> None:
        of_folder = self.events.setdefault(log_dir, [])
        if purge_step is not None:
            of_folder[:] = [event for event in of_folder if event[2] < purge_step]
        self.own: list[tuple[str, Any, int]] = []
        self.folder, self.closed = of_folder, False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert not self.closed and isinstance(scalar_value, int | float)
        self.own.append((tag, scalar_value, global_step))

    def add_image(self, tag: str, img_tensor: Any, global_step: int, *, dataformats: str = "CHW") -> None:
        assert img_tensor.dtype == np.uint8 and dataformats == "HWC" and img_tensor.shape[2] == 3
        self.own.append((tag, img_tensor, global_step))

    def flush(self) -> None:
        self.folder += self.own
        self.own = []

    def close(self) -> None:
        self.flush()
        self.closed = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, Any, int]]]:
    """What was written, by folder."""
    module = ModuleType(MODULE)
    monkeypatch.setattr(module, "SummaryWriter", Writer, raising=False)
    monkeypatch.setitem(sys.modules, MODULE, module)
    Writer.events = {}
    return Writer.events


def test_a_phase_writes_its_history_and_its_picture(
    tmp_path: Path, events: dict[str, list[tuple[str, Any, int]]]
) -> None:
    validation = {"data": models.write_street(tmp_path), "frames": 2, "times": 2}
    train(models.recipe(tmp_path, tensorboard=True, validation=validation), tmp_path / "out", only=["dense"])
    assert list(events) == [str(tmp_path / "out" / "tensorboard" / "dense")]
    *scalars, (tag, picture_HW3, step) = events[str(tmp_path / "out" / "tensorboard" / "dense")]
    rows = json.loads((tmp_path / "out" / "dense.json").read_text())
    assert len(rows) == 2 and {"loss", "lr", "seconds", "miou"} < rows[0].keys()
    assert scalars == [(key, value, row["step"]) for row in rows for key, value in row.items() if key != "step"]
    assert (tag, step) == ("samples", 4)
    assert np.array_equal(picture_HW3, np.asarray(Image.open(tmp_path / "out" / "samples-dense.png")))


def test_what_was_told_of_steps_that_are_taken_again_is_void(
    tmp_path: Path, events: dict[str, list[tuple[str, Any, int]]]
) -> None:
    run = PhaseRun(models.recipe(tmp_path, tensorboard=True), "dense", tmp_path)
    first = EventFile(run, 0)
    for step in (2, 3, 4):
        first.add({"step": step, "loss": 1.0})
    EventFile(run, 3).add({"step": 5, "loss": 2.0, "rolled_back_from": 4})
    assert events[str(tmp_path / "tensorboard" / "dense")] == [("loss", 1.0, 2), ("loss", 1.0, 3), ("loss", 2.0, 5)]


def test_without_the_package_a_line_names_the_extra_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(InputError, match=r"pip install 'edgeprune\[tensorboard\]', or set tensorboard: false"):
        train(models.recipe(tmp_path, tensorboard=True), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []

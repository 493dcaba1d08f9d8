"""Events for TensorBoard: of steps taken again, and without the package. Those of a whole run: `test_run_folder.py`."""

import sys
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.tensorboard import EventFile
from tests import models
from tests.train.summary_writer import MODULE, Writer, writing


def test_what_was_told_of_steps_that_are_taken_again_is_void(tmp_path: Path) -> None:
    run = PhaseRun(models.recipe(tmp_path, tensorboard=True), "dense", tmp_path)
    with writing():
        first = EventFile(run, 0)
        for step in (2, 3, 4):
            first.add({"step": step, "loss": 1.0})
        EventFile(run, 3).add({"step": 5, "loss": 2.0, "rolled_back_from": 4})
    events = Writer.events[str(tmp_path / "tensorboard" / "dense")]
    assert events == [("loss", 1.0, 2), ("loss", 1.0, 3), ("loss", 2.0, 5)]


def test_without_the_package_a_line_names_the_extra_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(InputError, match=r"pip install 'edgeprune\[tensorboard\]', or set tensorboard: false"):
        train(models.recipe(tmp_path, tensorboard=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()

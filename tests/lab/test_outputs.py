"""The file that a study writes at its end is tried at its beginning, and is none that it reads; as of a verb."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.lab import agreement, budgets, decoding, head_time, memory_parity, pipelining, shifted
from edgeprune.lab.remembered import __main__ as remembered
from edgeprune.lab.through_time import __main__ as through_time

STUDIES = [agreement, budgets, decoding, head_time, memory_parity, pipelining, remembered, shifted, through_time]


@pytest.fixture(params=STUDIES, ids=lambda module: module.__name__)
def study(request: pytest.FixtureRequest) -> Any:
    return request.param.main


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that is a bundle, a checkpoint and a clip, all damaged: whatever reads them says so."""
    (tmp_path / "read").mkdir()
    for name in ("manifest.json", "model.safetensors", "clip.mp4"):
        (tmp_path / "read" / name).write_text("kept")
    return tmp_path


def typed(study: Any, place: Path, out: Path) -> None:
    """Raises what the study is refused for."""
    given = {"bundle": str(place / "read"), "checkpoint": str(place / "read" / "model.safetensors")}
    given |= {"clip": str(place / "read" / "clip.mp4"), "engine": "--engine=openvino", "data": "--data=camvid"}
    needed = [given[param.name] for param in study.params if param.required or param.name == "clip"]
    CliRunner().invoke(study, [*needed, "--out", str(out)], catch_exceptions=False)


def test_what_cannot_be_written_is_refused_before_the_work(study: Any, place: Path) -> None:
    (place / "folder").mkdir()
    (place / "file").touch()
    for out in (place / "folder", place / "file" / "rows.csv", Path("/dev/null")):
        with pytest.raises(InputError, match=r"is a folder; name a file|cannot write|is neither a file nor a folder"):
            typed(study, place, out)


def test_what_is_read_is_not_replaced(study: Any, place: Path) -> None:
    read = "model.safetensors" if "checkpoint" in [param.name for param in study.params] else "manifest.json"
    (place / "link.csv").hardlink_to(place / "read" / read)
    with pytest.raises(InputError, match=r"is what is read from|lies in .*, which is read"):
        typed(study, place, place / "read" / read)
    if read == "model.safetensors":
        with pytest.raises(InputError, match="is what is read from"):
            typed(study, place, place / "link.csv")
    assert (place / "read" / read).read_text() == "kept"


def test_a_study_that_fails_leaves_nothing_and_what_was_there(study: Any, place: Path) -> None:
    (place / "rows.csv").write_text("kept")
    with pytest.raises(InputError):
        typed(study, place, place / "rows.csv")
    assert (place / "rows.csv").read_text() == "kept"
    assert sorted(path.name for path in place.iterdir()) == ["read", "rows.csv"]

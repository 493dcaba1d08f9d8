"""The share of each class in each frame."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.sinks import lines
from edgeprune.runtime.sinks.areas import areas_output
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import read, row
from tests.runtime.sinks.found import Found


def test_a_line_a_frame_and_its_cost_in_the_row(tmp_path: Path) -> None:
    path, rows = tmp_path / "areas.jsonl", tmp_path / "rows.csv"
    outputs = Outputs({"areas": str(path), "record": str(rows)}, Scripted(0))
    for index in range(3):
        outputs.add(Found(index, "a.png" if index else None), row(index))
        assert len(read(path.with_name("areas.partial.jsonl"))) == index + 1
    outputs.end(failed=False)
    found = read(path)
    assert [(each["index"], each["name"]) for each in found] == [(0, None), (1, "a.png"), (2, "a.png")]
    assert found[1]["areas"] == {f"class {index}": float(index == 1) for index in range(6)}
    assert list(found[0]) == ["index", "time", "name", "presentation_s", "areas"]
    assert all(float(each["encode_ms"]) > 0 for each in read(rows))


def test_times_are_those_of_the_capture_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_010.5)
    monkeypatch.setattr("time.monotonic_ns", lambda: 10 * 10**9)  # Found's frames were captured at 0
    outputs = Outputs({"areas": str(tmp_path / "areas.jsonl")}, Scripted(0))
    outputs.add(Found(0), row(0))
    outputs.end(failed=False)
    [line] = read(tmp_path / "areas.jsonl")
    expected = datetime.fromtimestamp(1_700_000_000.5, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    assert line["time"] == f"{expected}.500Z"


def test_areas_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 500)
    outputs = Outputs({"areas": f"{tmp_path}/areas/"}, Scripted(0))
    for index in range(9):
        outputs.add(Found(index), row(index))
    outputs.end(failed=False)
    found = sorted((tmp_path / "areas").iterdir())
    assert len(found) > 2 and [json.loads(line)["index"] for path in found for line in path.open()] == list(range(9))


def test_names_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"areas are written as .jsonl, not 'areas.csv'; type .*areas.jsonl"):
        areas_output(str(tmp_path / "areas.csv"))
    with pytest.raises(InputError, match=r"standard output has the run's own result alone; name a file"):
        areas_output("-")
    (tmp_path / "a.partial.jsonl").touch()
    with pytest.raises(InputError, match="is what a run that failed has kept"):
        areas_output(str(tmp_path / "a.partial.jsonl"))

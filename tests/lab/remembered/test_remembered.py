"""The study of what a bundle's memory is worth, on a small one."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.lab.remembered import __main__ as remembered
from edgeprune.lab.remembered.ways import ALONE, DENSE, REMEMBERED, WAITING
from edgeprune.runtime import switching
from tests.export.conftest import cpu, inputs
from tests.export.remembering import pays, remembers
from tests.lab.remembered.test_clips import write_set
from tests.models import STREET

__all__ = ["cpu", "inputs", "pays", "remembers"]
CLIP = "synthetic://street?seed=900000003&speed=0"


def study(*words: str) -> str:
    result = CliRunner().invoke(remembered.main, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_all_ways_on_a_street(remembers: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "find_flow", lambda threads: None)
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.is_slight", lambda scores_N: False)  # else both wait
    out = tmp_path / "rows.csv"
    said = study(str(remembers.folder), CLIP, "--frames", "10", "--out", str(out))
    rows = {row["way"]: row for row in read(out)}
    assert list(rows)[:4] == [DENSE, ALONE, REMEMBERED, WAITING] and len(rows) in (5, 6)  # repeated, as seldom or not
    assert float(rows[WAITING]["tokens"]) < float(rows[REMEMBERED]["tokens"])
    assert float(rows[DENSE]["equal"]) == 1 and float(rows[DENSE]["speed"]) == 1
    assert all(0 < float(row["miou"]) < 1 and float(row["mean_ms"]) > 0 for row in rows.values())
    assert float(rows[REMEMBERED]["tokens"]) < 1
    assert all(row["warped"] == "" and 0 <= float(row["small_moving"]) <= 1 for row in rows.values())
    assert "`warped` are left out: pip install 'edgeprune[flow]'" in said
    assert list(tmp_path.iterdir()) == [out]


def test_optical_flow_has_a_row_and_a_column(remembers: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra `flow`: pip install 'edgeprune[flow]'")
    out = tmp_path / "rows.csv"
    said = study(str(remembers.folder), CLIP, "--frames", "6", "--out", str(out))
    rows = read(out)
    assert len(rows) in (6, 7) and rows[-1]["way"].startswith("labels carried by optical flow, one frame in ")
    assert all(0 < float(row["warped"]) <= 1 and float(row["mean_ms"]) > 0 for row in rows)
    assert "left out" not in said


def test_clips_in_a_row_over_and_over(remembers: Bundle, tmp_path: Path) -> None:
    """A cut to a data set's frames, in which all is computed, and three loops of both."""
    out = tmp_path / "rows.csv"
    data = write_set(tmp_path, list(STREET.names))
    words = [CLIP, "--data", data, "--frames", "4", "--loops", "3", "--out", str(out)]
    said = study(str(remembers.folder), *words)
    assert "4 frames of street?seed=900000003&speed=0" in said and "3 frames of three, val" in said
    [cut] = read(tmp_path / "rows-cuts.csv")
    assert cut["clip"] == "three, val" and float(cut["tokens"]) == 1
    assert all(0 <= float(cut[way]) <= 1 for way in ("remembered", "alone", "full"))
    loops = read(tmp_path / "rows-loops.csv")
    figures = ("equal", "miou", "tokens")
    assert [(row["figure"], row["loops"], row["frames"]) for row in loops] == [(each, "3", "21") for each in figures]
    for row in loops:
        assert float(row["points"]) == pytest.approx(100 * (float(row["last"]) - float(row["first"])))
    assert "loop 2 of 3" in said and "loop 3 of 3" in said


def test_a_bundle_without_memory_is_refused(cpu: Bundle) -> None:
    with pytest.raises(InputError, match="was built without memory"):
        study(str(cpu.folder), CLIP)


def test_no_clip_is_refused(remembers: Bundle) -> None:
    with pytest.raises(InputError, match="no clip was given; name a video"):
        study(str(remembers.folder))


def test_a_clip_of_one_frame_is_refused(remembers: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has 1 frames, expected 3 or more; name a clip"):
        study(str(remembers.folder), str(tmp_path))


def test_where_an_engine_leaves_the_memory_out_nothing_is_called_remembered(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 2.0 if running.bundle.remembers else 1.0)
    with pytest.raises(InputError, match="onnxruntime leaves the memory of .* out on this machine"):
        study(str(remembers.folder), CLIP, "--frames", "3")


def test_nor_where_it_leaves_it_out_of_one_way_alone(remembers: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way measures when it is opened, and two may find otherwise."""
    remembering_ms = iter([1.0, 3.0])
    monkeypatch.setattr(
        switching, "_takes_ms", lambda running, bucket: next(remembering_ms) if running.bundle.remembers else 2.0
    )
    with pytest.raises(InputError, match="onnxruntime leaves the memory of .* out on this machine"):
        study(str(remembers.folder), CLIP, "--frames", "3")

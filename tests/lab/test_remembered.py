"""The study of what a bundle's memory is worth, on a small one."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.lab import remembered
from edgeprune.lab.remembered import ALONE, DENSE, REMEMBERED, Way, compare
from edgeprune.lab.through_time.scores import Judged
from edgeprune.runtime import switching
from tests.export.conftest import cpu, inputs
from tests.export.test_memory import pays, remembers

__all__ = ["cpu", "inputs", "pays", "remembers"]
CLIP = "synthetic://street?seed=900000003&speed=0"


def test_all_ways_on_a_street(remembers: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    words = [str(remembers.folder), CLIP, "--frames", "10", "--out", str(out)]
    result = CliRunner().invoke(remembered.main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = {row["way"]: row for row in csv.DictReader(out.open())}
    assert list(rows)[:3] == [DENSE, ALONE, REMEMBERED] and len(rows) == 4
    assert float(rows[DENSE]["equal"]) == 1 and float(rows[DENSE]["speed"]) == 1
    assert all(0 < float(row["miou"]) < 1 and float(row["mean_ms"]) > 0 for row in rows.values())
    assert float(rows[REMEMBERED]["tokens"]) < 1


def test_labels_are_repeated_as_seldom_as_takes_the_same_time() -> None:
    labels = [[[number]] for number in range(6)]
    frames = Judged(dense=[remembered.np.array(each) for each in labels])
    ways = {DENSE: Way(frames.dense, [40.0] * 6, [1.0] * 6), ALONE: Way(list(frames.dense), [30.0] * 6, [0.5] * 6)}
    ways[REMEMBERED] = Way([frames.dense[0]] * 6, [99.0, *[10.0] * 5], [0.1] * 6)
    dense, alone, kept, repeated = compare(frames, ways)
    assert repeated.way == "labels repeated, each 3 times"
    assert (repeated.equal, alone.equal, kept.equal) == (0.2, 1.0, 0.0)  # of five frames the third is its own
    assert (dense.speed, alone.speed, kept.speed) == (1.0, pytest.approx(40 / 30), 4.0)
    assert repeated.mean_ms == 6.0


def test_a_bundle_without_memory_is_refused(cpu: Bundle) -> None:
    with pytest.raises(InputError, match="was built without memory"):
        CliRunner().invoke(remembered.main, [str(cpu.folder), CLIP], catch_exceptions=False)


def test_a_way_that_takes_no_time_is_no_reason_to_fail() -> None:
    """A still clip is remembered in a moment, and labels would be repeated longer than it lasts."""
    frames = Judged(dense=[remembered.np.array([[0]])] * 3)
    ways = {name: Way(list(frames.dense), [40.0] * 3, [1.0] * 3) for name in (DENSE, ALONE)}
    ways[REMEMBERED] = Way(list(frames.dense), [40.0, 0.1, 0.1], [0.0] * 3)
    assert compare(frames, ways)[-1].way == "labels repeated, each 2 times"


def test_a_clip_of_one_frame_is_refused(remembers: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has 1 frames, expected 3 or more; name a clip"):
        CliRunner().invoke(remembered.main, [str(remembers.folder), str(tmp_path)], catch_exceptions=False)


def test_where_an_engine_leaves_the_memory_out_nothing_is_called_remembered(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 2.0 if running.bundle.remembers else 1.0)
    words = [str(remembers.folder), CLIP, "--frames", "3"]
    with pytest.raises(InputError, match="onnxruntime leaves the memory of .* out on this machine"):
        CliRunner().invoke(remembered.main, words, catch_exceptions=False)

"""The camera loop: what it reports and what it records. What is left when it fails: `test_run_failures.py`."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.bundle import Bundle
from edgeprune.runtime.budget.kept import budget_figures
from edgeprune.runtime.budget.start import start_governor
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.cameras import CameraUnplugged, Wanted, open_source
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.cameras.reconnect import Reconnecting
from edgeprune.runtime.choose import fixed, make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.figures import overhead
from edgeprune.runtime.row import STAGES
from edgeprune.runtime.run import run
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import summarise_run
from tests import bundles
from tests.runtime.loop.conftest import Ended, decoded
from tests.runtime.loop.fakes import CountingMeter, Scripted, scripted_frame
from tests.runtime.rows import ledger_of, read

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_summary_can_be_recomputed_from_the_record(
    start: Callable[..., Ended], tmp_path: Path, make_png_folder: Callable[[int], Path], suffix: str
) -> None:
    record, out = tmp_path / f"rows{suffix}", tmp_path / "out" / "overlay.mp4"
    source = open_source(str(make_png_folder(5)), Wanted(loop=True))
    summary, failure = start(source, frames=12, record=record, out=out)
    assert failure is None
    assert (summary["record"], summary["out"], summary["ended"]) == (str(record), str(out), "finished")
    rows = read(record)
    figures = asdict(summarise_run(ledger_of(rows)))
    assert figures == {key: summary[key] for key in figures}
    assert summary["frames"] == 12 and set(summary["stages_ms"]) == set(STAGES)
    assert all(summary["stages_ms"][stage]["p50"] is not None for stage in STAGES)
    assert summary["overhead"] == asdict(overhead(ledger_of(rows)))
    names = [bundles.expected_bucket(scripted_frame(index % 5)) for index in range(12)]
    assert [row["bucket"] for row in rows] == names
    layers = [3 * bundles.N + 9 * bundles.BUCKETS[name] for name in names]
    assert summary["tokens_mean"] == pytest.approx(np.mean(layers))
    assert summary["token_share"] == pytest.approx(np.mean(layers) / (bundles.DEPTH * bundles.N))
    json.dumps(summary, allow_nan=False)
    assert [frame.shape for frame in decoded(out)] == [(bundles.H, bundles.W, 3)] * 12
    assert all(row["presentation_s"] in (None, "") for row in rows)  # images have no times
    assert [row["name"] for row in rows] == [f"{index % 5:03d}.png" for index in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", record.name]


def test_buckets_follow_the_frames_count(start: Callable[..., Ended], bundle: Bundle) -> None:
    expected = [bundles.expected_bucket(scripted_frame(index)) for index in range(bundles.N + 1)]
    counted = {name: expected.count(name) for name in sorted(set(expected))}
    assert start(Scripted(bundles.N + 1)).summary["buckets"] == counted == {"full": 12, "half": 6, "quarter": 7}
    half = fixed(bundle.manifest.buckets, "half")
    assert start(Scripted(4), chooser=half).summary["buckets"] == {"half": 4}
    assert start(Scripted(4), chooser="previous-frame").summary["buckets"] == {"full": 1, "quarter": 3}


def test_a_budget_is_in_the_summary_and_can_be_recomputed(bundle: Bundle, session: Session, tmp_path: Path) -> None:
    names = [bucket.name for bucket in bundle.manifest.buckets]
    budget = parse_budget("0.0001ms,2.5W")
    chooser, meter = make_chooser("in-frame", bundle.manifest.buckets), CountingMeter()
    governor = start_governor(budget, session, names, (bundles.H, bundles.W), meter)
    stream = Stream(bundle, session, chooser, open_capture(Scripted(bundles.N + 1)), governor)
    summary, _ = run(stream, meter, outputs={"record": str(tmp_path / "rows.csv")})
    rows = read(tmp_path / "rows.csv")
    assert summary.budget == budget_figures(budget, ledger_of(rows))
    assert summary.budget.held == {"ms": 0.0, "W": 1.0} and summary.budget.longest_over == {"ms": 25, "W": 0}
    assert summary.budget.capped == pytest.approx(18 / 25)  # 12 frames ask for all, 6 for half of them
    assert {row["bucket"] for row in rows} == {"quarter"} and {row["watts"] for row in rows} == {"2.0"}


def test_a_camera_of_any_size_is_fitted(start: Callable[..., Ended], tmp_path: Path) -> None:
    source = open_source("synthetic://street?seed=3&height=90&width=160&ahead=2")
    summary, failure = start(source, frames=3, out=tmp_path / "overlay.mp4")
    assert failure is None and summary["camera"]["fps"] == 15
    assert decoded(tmp_path / "overlay.mp4")[0].shape == (90, 160, 3)


def test_a_camera_that_comes_back_in_another_size(
    start: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film keeps the size of its first frame, label maps have each frame's own."""

    class Wide(Scripted):
        def one_pass(self) -> Any:
            for picture in super().one_pass():
                yield picture._replace(image_HW3=picture.image_HW3.repeat(2, axis=1))

    monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.01)
    first, wide = Scripted(1, then=CameraUnplugged("gone"), live=True), Wide(1, live=True)
    first.paced = True  # a camera's frames are not fitted ahead, and this is to be seen with every pipeline
    capture = Reconnecting(first, lambda: wide, give_up_s=60)
    monkeypatch.setattr("tests.runtime.loop.conftest.open_capture", lambda source: capture)
    out, labels = tmp_path / "overlay.mp4", tmp_path / "labels"
    summary, failure = start(first, out=out, labels=labels)
    assert failure is None and (summary["frames"], summary["camera"]["reconnects"]) == (2, 1)
    height, width = bundles.H, bundles.W
    film = decoded(out)
    assert [frame.shape for frame in film] == [(height, width, 3)] * 2
    bars = film[1][[4, -5]].reshape(-1, 3)  # above and below the wide picture
    assert np.ptp(bars.astype(int), axis=0).max() < 20
    assert [Image.open(path).size for path in sorted(labels.iterdir())] == [(width, height), (2 * width, height)]


def test_frames_and_seconds_end_a_run(start: Callable[..., Ended]) -> None:
    assert start(Scripted(50), frames=7).summary["frames"] == 7
    summary = start(open_source("synthetic://street?height=32&width=48&ahead=2"), seconds=0.2).summary
    assert 0.2 <= summary["frames"] / summary["fps"] < 5


def test_a_gap_of_a_paced_file_is_no_stall(start: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    class Gap(Scripted):
        def one_pass(self) -> Any:
            for picture, shown_s in zip(super().one_pass(), (0.0, 0.4), strict=True):
                yield picture._replace(presentation_s=shown_s)

    monkeypatch.setattr("edgeprune.runtime.cameras.capture.STALL_S", 0.1)
    source = Gap(2, live=True)
    source.paced = True
    summary, failure = start(source)
    assert failure is None and summary["frames"] == 2


def test_without_a_sensor_there_is_no_figure(start: Callable[..., Ended]) -> None:
    energy = start(Scripted(3)).summary["energy"]
    assert energy["status"].startswith("no energy sensor")
    assert (energy["mj_per_frame"], energy["mj_per_frame_above_idle"], energy["rails"]) == (None, None, {})


def test_energy_per_frame(start: Callable[..., Ended]) -> None:
    meter = CountingMeter()
    energy = start(Scripted(8), meter=meter, idle_w={"IN": 0.5, "CPU": 0.1}).summary["energy"]
    assert (meter.started, meter.stopped) == (1, 1)
    assert energy["mj_per_frame"] == 2500  # 20 J over 8 frames
    assert energy["mj_per_frame_above_idle"] == 1875  # less 0.5 W for 10 s
    assert energy["idle_w"] == 0.5  # of the rails that are summed
    assert energy["rails"] == {"IN": 2500, "CPU": 1250} and energy["total_of"] == ["IN"]
    without = start(Scripted(8), meter=CountingMeter()).summary["energy"]
    assert (without["mj_per_frame_above_idle"], without["idle_w"]) == (None, None)


def test_memory_stays_flat(start: Callable[..., Ended], tmp_path: Path) -> None:
    class Watching(Scripted):
        def one_pass(self) -> Any:
            for index, picture in enumerate(super().one_pass()):
                if index in (100, 1100):
                    levels.append(tracemalloc.get_traced_memory()[0])
                yield picture

    levels: list[int] = []
    tracemalloc.start()
    try:
        start(Watching(1200), record=tmp_path / "rows.csv")
    finally:
        tracemalloc.stop()
    assert levels[1] - levels[0] < 200_000  # 77 bytes a row; a frame that was kept would be 4,608

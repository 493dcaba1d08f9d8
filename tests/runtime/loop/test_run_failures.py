"""What is left of a run that fails, or is ended: a camera, a disk, another process, a signal."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.cameras import CameraUnplugged, open_source
from edgeprune.runtime.run import CutShort
from edgeprune.runtime.summary import summarise_run
from tests import bundles
from tests.runtime.loop.conftest import Ended, decoded
from tests.runtime.loop.fakes import CountingMeter, Scripted
from tests.runtime.rows import ledger_of, read

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (CameraUnplugged("camera scripted is gone; plug it in"), "is gone"),
        (InputError("cannot read image 005.png; replace it"), "replace it"),
    ],
)
def test_what_came_before_a_failure_is_kept(
    start: Callable[..., Ended], tmp_path: Path, then: Exception, message: str
) -> None:
    meter = CountingMeter()
    record, out = tmp_path / "rows.csv", tmp_path / "overlay.mp4"
    summary, failure = start(Scripted(5, then=then), meter=meter, record=record, out=out)
    assert isinstance(failure, RunError) and message in str(failure)
    assert (summary["frames"], summary["ended"], summary["failure"]) == (5, "failure", str(failure))
    assert "5 frames until then are in" in str(failure) and "rows.partial.csv" in str(failure)
    assert meter.stopped == 1 and summary["energy"]["mj_per_frame"] == 4000
    assert summary["record"] == str(tmp_path / "rows.partial.csv")
    assert len(read(summary["record"])) == 5 and len(decoded(summary["out"])) == 5
    assert not record.exists() and not out.exists()


class Meddled(Scripted):
    """Before its last frame something happens."""

    def __init__(self, count: int, meddle: Callable[[], object]):
        super().__init__(count)
        self.meddle = meddle

    def one_pass(self) -> Any:
        for index, picture in enumerate(super().one_pass()):
            if index == self.count - 1:
                self.meddle()
            yield picture


NO_NAME = "cannot give {} its name"
REMOVED = "{} was removed or moved by another process while it was written"


def take_the_folders_name(out: Path) -> None:
    out.rename(out.with_name("moved"))
    out.touch()


# what another process does -> why the run failed, and where the frames are
MEDDLING: dict[str, tuple[Callable[[Path], object], list[str], list[str]]] = {
    "a folder takes the record's name": (
        lambda out: (out / "rows.csv").mkdir(),
        [NO_NAME.format("rows.csv")],
        ["rows.partial.csv", "overlay.partial.mp4"],
    ),
    "a folder takes the video's name": (
        lambda out: (out / "overlay.mp4").mkdir(),
        [NO_NAME.format("overlay.mp4")],
        ["rows.csv", "overlay.partial.mp4"],
    ),
    "the rows are removed": (
        lambda out: (out / "rows.partial.csv").unlink(),
        [REMOVED.format("rows.partial.csv")],
        ["overlay.partial.mp4"],
    ),
    "the video is replaced": (
        lambda out: os.replace(shutil.copy(out / "rows.partial.csv", out / "new"), out / "overlay.partial.mp4"),
        [REMOVED.format("overlay.partial.mp4")],
        ["rows.csv"],
    ),
    "the folder is removed": (
        shutil.rmtree,
        [REMOVED.format("rows.partial.csv"), REMOVED.format("overlay.partial.mp4")],
        [],
    ),
    "a file takes the folder's name": (
        take_the_folders_name,
        [REMOVED.format("rows.partial.csv"), REMOVED.format("overlay.partial.mp4")],
        [],
    ),
}


@pytest.mark.parametrize("what", MEDDLING)
def test_what_others_do_to_the_outputs_loses_nothing_more(
    start: Callable[..., Ended], tmp_path: Path, what: str
) -> None:
    meddle, reasons, kept = MEDDLING[what]
    out = tmp_path / "out"
    meter = CountingMeter()
    source = Meddled(6, lambda: meddle(out))
    summary, failure = start(source, meter=meter, record=out / "rows.csv", out=out / "overlay.mp4")
    assert isinstance(failure, RunError) and summary["failure"] == str(failure) and summary["frames"] == 6
    said = str(failure).replace(f"{out}/", "")
    assert all(reason in said for reason in reasons), said
    assert said.endswith(f"6 frames until then {'are in ' + ' and '.join(kept) if kept else 'were processed'}")
    assert [summary[key] for key in ("record", "out") if summary[key]] == [str(out / name) for name in kept]
    for name in kept:
        assert len(read(out / name) if "rows" in name else decoded(out / name)) == 6
    assert meter.stopped == 1


def test_a_failure_before_the_first_frame_leaves_nothing(start: Callable[..., Ended], tmp_path: Path) -> None:
    """Neither a table without rows nor a video of 749 bytes is what was recorded."""

    def fail(count: int) -> str:
        raise RunError("the engine failed")

    files = {"record": tmp_path / "rows.csv", "out": tmp_path / "overlay.mp4", "labels": tmp_path / "labels"}
    summary, failure = start(Scripted(5), CountingMeter(), fail, **files)
    assert str(failure) == "the engine failed; no frame was processed before"
    assert [summary[key] for key in ("frames", *files)] == [0, None, None, None]
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_refuses_in_the_middle_is_a_failure(start: Callable[..., Ended], tmp_path: Path) -> None:
    """As the rows until then: a source whose disk is taken out."""
    gone = OSError(errno.EIO, "Input/output error", "film.mp4")
    summary, failure = start(Scripted(4, then=gone), record=tmp_path / "rows.csv")
    kept = tmp_path / "rows.partial.csv"
    assert str(failure) == f"film.mp4: Input/output error; 4 frames until then are in {kept}"
    assert summary["frames"] == len(read(kept)) == 4


def test_a_second_ctrl_c_says_what_is_left(start: Callable[..., Ended], tmp_path: Path) -> None:
    class Hanging(CountingMeter):
        def stop(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(CutShort, match=r"stopped before its files were finished; 3 frames until then are in .*rows"):
        start(Scripted(3), meter=Hanging(), record=tmp_path / "rows.csv")
    assert len(read(tmp_path / "rows.csv")) == 3


def test_ctrl_c_that_a_library_swallowed(start: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.run.asked", lambda: True)
    summary, failure = start(Scripted(50))
    assert failure is None and (summary["frames"], summary["ended"]) == (1, "interrupted")


def test_a_video_cut_off_mid_frame(start: Callable[..., Ended], tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(30):
            image_HW3 = np.random.default_rng(index).integers(0, 255, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HW3, format="rgb24")))
        container.mux(stream.encode(None))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    summary, failure = start(open_source(str(cut)), record=tmp_path / "rows.jsonl")
    assert failure is not None and "cut off" in str(failure)
    assert 5 < summary["frames"] < 30
    assert len(read(summary["record"])) == summary["frames"]


def test_nothing_is_left_when_a_run_cannot_begin(start: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    record = tmp_path / "rows.csv"
    with pytest.raises(InputError, match="cannot write a video"):
        start(Scripted(3), out=tmp_path / "file" / "overlay.mp4", record=record)
    with pytest.raises(InputError, match="MP4"):
        start(Scripted(3), out=tmp_path / "overlay.avi", record=record)
    with pytest.raises(InputError, match="unknown format of a record"):
        start(Scripted(3), record=tmp_path / "rows.xls")
    with pytest.raises(InputError, match="has no frames"):
        start(Scripted(0), record=record)
    with pytest.raises(CameraUnplugged):
        start(Scripted(0, then=CameraUnplugged("gone")), record=record)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_ends_a_run_well(start: Callable[..., Ended], tmp_path: Path) -> None:
    calls = iter(range(100))

    def chooser(count: int) -> str:  # Ctrl-C is raised wherever the main thread is
        if next(calls) == 3:
            raise KeyboardInterrupt
        return "full"

    summary, failure = start(Scripted(50), CountingMeter(), chooser, record=tmp_path / "rows.csv")
    assert failure is None and summary["ended"] == "interrupted"
    assert len(read(tmp_path / "rows.csv")) == summary["frames"] == 3


FULL_DISK = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from edgeprune.bundle import open_bundle
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.run import run
from edgeprune.runtime.stream import Stream
from tests.runtime.loop.fakes import Scripted
bundle = open_bundle(Path({bundle!r}))
session = ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
stream = Stream(bundle, session, make_chooser("in-frame", bundle.manifest.buckets), open_capture(Scripted(400)))
summary, failure = run(stream, open_meter("none"), outputs={{{key!r}: {path!r}}})
print(json.dumps([summary.to_json(), str(failure)]))
"""


@pytest.mark.parametrize(("key", "name"), [("record", "rows.csv"), ("record", "rows.jsonl"), ("out", "overlay.mp4")])
def test_a_full_disk_while_recording(bundle: Bundle, tmp_path: Path, key: str, name: str) -> None:
    path, limit = tmp_path / name, 28_000  # bytes that a file may have: writing on fails as on a full disk
    root = str(Path(bundles.__file__).parents[1])
    script = FULL_DISK.format(root=root, bundle=str(bundle.folder), limit=limit, key=key, path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    summary, failure = json.loads(done.stdout)
    assert "cannot write on" in failure and "free some space" in failure
    partial = Path(summary[key])
    assert "partial" in partial.name and not path.exists()
    if key == "record":
        assert len(read(partial)) == summary["frames"] > 50
        assert asdict(summarise_run(ledger_of(read(partial))).latency_ms) == summary["latency_ms"]
    else:
        assert 10 < len(decoded(partial)) <= summary["frames"] < 400

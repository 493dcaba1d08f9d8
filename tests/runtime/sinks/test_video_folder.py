"""A video without an end: files of a minute in a folder, bounded, played but for a second after `kill -9`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.outputs import LOCK_INSIDE
from edgeprune.runtime.sinks import encode, video
from edgeprune.runtime.sinks.video import FILMS, OverlayVideo, VideoFolder, open_video
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found
from tests.runtime.sinks.test_encode import largest_file

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

ROOT = Path(__file__).parents[3]
FPS = 10.0


def files(folder: Path) -> list[Path]:
    return sorted((each for each in folder.iterdir() if FILMS.number(each.name)), key=lambda each: each.name[:14])


def shown(path: Path) -> tuple[int, tuple[int, int]]:
    """Its frames that can be decoded, of a file that may be cut off, and their size."""
    count, size = 0, (0, 0)
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                count, size = count + 1, (frame.height, frame.width)
        except av.error.FFmpegError:
            pass
    return count, size


def write(sink: VideoFolder, indices: range, height: int = 16, width: int = 32) -> None:
    for index in indices:
        taken = sink.add(Found(index, height=height, width=width), row(index, overlay_ms=None))
        assert taken.overlay_ms is not None and taken.encode_ms is not None


def test_a_new_file_after_a_minute_of_film_and_with_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "SEGMENT_S", 1.0)
    sink = VideoFolder(tmp_path / "video", Scripted(0, fps=FPS))
    write(sink, range(25))
    write(sink, range(25, 28), 20, 40)
    assert [".partial" in path.name for path in files(tmp_path / "video")] == [False, False, False, True]
    sink.close()
    sink.close()
    assert [shown(path) for path in files(tmp_path / "video")] == [
        (10, (16, 32)),
        (10, (16, 32)),
        (5, (16, 32)),
        (3, (20, 40)),
    ]
    assert sink.kept == tmp_path / "video" and not list((tmp_path / "video").glob("*partial*"))


def test_the_oldest_go_and_one_file_has_its_share(tmp_path: Path) -> None:
    """A picture that compresses badly fills a file before its minute is over."""

    class Noise(Found):
        def overlay(self, tokens: bool = False, status: str | None = None) -> np.ndarray:
            return np.random.default_rng(self.index).integers(0, 255, (64, 96, 3), np.uint8)

    sink, keep = VideoFolder(tmp_path / "video", Scripted(0, fps=FPS)), 150_000
    sink.bound(keep)
    (tmp_path / "video" / "mine.mp4").write_bytes(b"mine" * 200_000)
    for index in range(250):
        sink.add(Noise(index), row(index))
        assert sum(path.stat().st_size for path in files(tmp_path / "video")) <= keep
    sink.abandon()
    found = files(tmp_path / "video")
    assert 3 < len(found) < 20 and FILMS.number(found[0].name) != 1
    assert [".partial" in path.name for path in found] == [False] * (len(found) - 1) + [True]
    assert all(shown(path)[0] for path in found) and (tmp_path / "video" / "mine.mp4").stat().st_size == 800_000


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from edgeprune.runtime.sinks import encode, video
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found
from tests.runtime.sinks.test_encode import largest_file
video.SEGMENT_S = 2.0
sink = video.VideoFolder(Path({folder!r}), Scripted(0, fps={fps}))
for index in range(10**9):
    sink.add(Found(index, height=16, width=32), row(index))
    print(index, flush=True)
    if index > 70:
        time.sleep(60)
"""


def test_a_killed_run_loses_a_second_at_most_and_the_next_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "video"
    for begun in range(2):
        script = CHILD.format(root=str(ROOT), folder=str(folder), fps=FPS)
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        before = sum(shown(path)[0] for path in files(folder)) if begun else 0
        for _ in range(67 + begun):  # in the midst of a file, 7 and 8 frames behind its beginning
            child.stdout.readline()
        child.kill()
        written = 67 + begun + len(child.stdout.read().splitlines())
        child.wait()
        found = sum(shown(path)[0] for path in files(folder)) - before
        assert written - FPS <= found <= written + 1
    assert len(list(folder.glob("*partial*"))) == 2


@pytest.mark.parametrize("encoder", [name for name in encode.ENCODERS if name in av.codecs_available])
def test_what_is_not_on_the_disk_yet_is_less_than_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    """After each frame, with each encoder: what a process that is killed there would lose."""
    monkeypatch.setattr(encode, "ENCODERS", {encoder: encode.ENCODERS[encoder]})
    sink = VideoFolder(tmp_path / "video", Scripted(0, fps=FPS))
    for index in range(24):
        write(sink, range(index, index + 1))
        if index >= 9:
            assert index + 1 - shown(files(tmp_path / "video")[0])[0] < FPS
    sink.close()


def test_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert isinstance(open_video(str(tmp_path / "there"), Scripted(0)), VideoFolder)
    assert isinstance(open_video(f"{tmp_path}/new/", Scripted(0)), VideoFolder)
    assert isinstance(open_video(str(tmp_path / "a.mp4"), Scripted(0)), OverlayVideo)
    with pytest.raises(InputError, match=r"is a folder; name a file, such as .*/overlay.mp4, or a new folder"):
        open_video(str(tmp_path), Scripted(0))


@pytest.mark.parametrize("locked", [False, True])
def test_a_folder_that_is_gone_is_not_said_to_be_there(tmp_path: Path, locked: bool) -> None:
    """The disk was full before the first second was on it: a new folder goes with its only file, or when its lock goes."""
    if locked:
        (tmp_path / "video").mkdir()
        (tmp_path / "video" / LOCK_INSIDE).touch()
    sink = VideoFolder(tmp_path / "video", Scripted(0, fps=FPS))
    write(sink, range(3))
    with largest_file(0), pytest.raises(RunError, match="nothing of it was recorded"):
        sink.close()
    assert sink.kept is None and (tmp_path / "video").exists() == locked

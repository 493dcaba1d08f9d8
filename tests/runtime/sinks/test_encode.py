import errno
import io
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.sinks import encode
from edgeprune.runtime.sinks.encode import ENCODERS, VideoWriter

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

HEIGHT, WIDTH, FPS = 64, 96, 10


def noise(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def shade(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def readable_frames(path: Path) -> int:
    """Frames that can be decoded, of a file that may be cut off."""
    count = 0
    try:
        for _ in open_source(str(path)):
            count += 1
    except RunError:
        pass
    return count


def test_frames_come_back_and_the_final_name_appears_at_the_end(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "new" / "out.mp4", FPS, HEIGHT, WIDTH)
    for value in (0, 128, 255, 128):
        writer.write(shade(value))
    assert not writer.path.exists() and writer.partial.exists()
    writer.close()
    writer.close()
    assert writer.path.exists() and not writer.partial.exists()
    source = open_source(str(writer.path))
    means = [float(frame.image_HW3.mean()) for frame in source]
    assert means == pytest.approx([0, 128, 255, 128], abs=6)
    assert source.fps == pytest.approx(FPS, rel=0.01)


def test_no_gpl_encoder() -> None:
    assert not {"libx264", "libx264rgb", "libx265", "libxvid"} & set(ENCODERS)


def test_encoders_fall_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "ENCODERS", {"not-an-encoder": {}, "mpeg4": {}})
    with VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH) as writer:
        writer.write(shade(90))
    assert writer.encoder == "mpeg4"
    assert readable_frames(tmp_path / "out.mp4") == 1


def test_video_of_no_frames_is_not_left_behind(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH).close()
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_lose_a_row_and_a_column(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", FPS, 33, 47) as writer:
        writer.write(np.zeros((33, 47, 3), np.uint8))
    assert next(open_source(str(tmp_path / "out.mp4"))).image_HW3.shape == (32, 46, 3)


def test_frames_with_times_are_shown_at_them(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.5, 0.6]
    with VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH) as writer:
        for time_s in times_s:
            writer.write(shade(90), 7.0 + time_s)
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown_s = [frame.time for frame in container.decode(video=0)]
    assert shown_s == pytest.approx(times_s, abs=1e-3)


def key_frames_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name in av.codecs_available])
@pytest.mark.parametrize("step_s", [0.04, 0.3, 2.5])
def test_a_key_frame_a_second_however_many_frames_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, step_s: float
) -> None:
    """A camera of nominally 30 frames a second of which most are dropped."""
    monkeypatch.setattr(encode, "ENCODERS", {encoder: ENCODERS[encoder]})
    with VideoWriter(tmp_path / "out.mp4", 30, HEIGHT, WIDTH) as writer:
        for index in range(round(6 / step_s) + 1):
            writer.write(noise(index), index * step_s)
            lost_s = index * step_s - key_frames_s(writer.partial)[-1] if index * step_s > 2 * max(step_s, 1) else 0
            assert lost_s < 2 * max(step_s, 1) + step_s  # on the disk while it is written: all but the second begun
    steps_s = np.diff(key_frames_s(tmp_path / "out.mp4"))
    assert len(steps_s) and steps_s.max() < max(1, step_s) + step_s


def test_what_a_failed_run_kept_is_not_written_over(tmp_path: Path) -> None:
    kept = []
    for value in (10, 200):
        with pytest.raises(KeyError), VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH) as writer:
            writer.write(shade(value))
            raise KeyError("the loop failed")
        kept.append(writer.partial.read_bytes())
    with VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH) as writer:
        writer.write(shade(90))
    names = ["out.partial.mp4", "out.partial-2.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "out.mp4"])
    assert [(tmp_path / name).read_bytes() for name in names] == kept
    for name in names:
        with pytest.raises(InputError, match="is what a run that failed has kept"):
            VideoWriter(tmp_path / name, FPS, HEIGHT, WIDTH)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 640), (640, 1)])
def test_too_small_for_a_video(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(InputError, match=f"a picture of {height}x{width} pixels makes no video"):
        VideoWriter(tmp_path / "out.mp4", FPS, height, width)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [1 / 3600, 90000.0])
def test_rates_that_are_none(tmp_path: Path, fps: float) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps, HEIGHT, WIDTH) as writer:
        for index in range(3):
            writer.write(noise(index))
    assert readable_frames(tmp_path / "out.mp4") == 3


def test_what_is_on_the_disk_can_be_played_before_the_end(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH)
    for index in range(3 * FPS + 1):
        writer.write(noise(index))
    assert readable_frames(writer.partial) >= 2 * FPS
    writer.close()


def test_failed_run_leaves_a_readable_partial_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH) as writer:
        for index in range(5):
            writer.write(noise(index))
        raise KeyError("the loop failed")
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mp4"]
    assert readable_frames(writer.partial) == 5


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_keeps_what_was_recorded(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH)
    with largest_file(60_000), pytest.raises(RunError, match=r"cannot write on to .*out\.mp4 .*out\.partial\.mp4"):
        for index in range(500):
            writer.write(noise(index))
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mp4"]
    assert 0 < readable_frames(writer.partial) < 500


def test_a_header_alone_is_no_video(tmp_path: Path) -> None:
    """The disk is full before the first second is on it."""
    writer = VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH)
    with largest_file(2000), pytest.raises(RunError, match="; nothing of it was recorded; free some space"):
        for index in range(500):
            writer.write(noise(index))
    writer.abandon()
    assert writer.kept is None and list(tmp_path.iterdir()) == []


def test_the_last_second_is_kept_where_the_index_behind_it_has_no_room(tmp_path: Path) -> None:
    def film(name: str) -> VideoWriter:
        writer = VideoWriter(tmp_path / name, FPS, HEIGHT, WIDTH)
        for index in range(2 * FPS):
            writer.write(noise(index))
        return writer

    with film("whole.mp4"):
        pass
    data = (tmp_path / "whole.mp4").read_bytes()
    writer = film("out.mp4")
    with (
        largest_file(data.rindex(b"mfra") + 10),
        pytest.raises(RunError, match=r"what was recorded is in .*out.partial"),
    ):
        writer.close()
    assert readable_frames(writer.partial) == 2 * FPS


class FullDisk(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_full_at_the_very_end(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", FPS, HEIGHT, WIDTH)
    writer.write(noise(0))
    writer._disk.file.close()
    writer._disk.file = FullDisk()  # type: ignore[assignment]
    with pytest.raises(RunError, match="No space left on device"):
        writer.close()
    writer.close()
    assert not writer.path.exists()


@pytest.mark.parametrize(("name", "typed"), [
    ("out.avi", "out.mp4"), ("out", "out.mp4"), ("out.", "out.mp4"), (".mp4", "overlay.mp4"), ("...", "overlay.mp4"),
])  # fmt: skip
def test_only_mp4(tmp_path: Path, name: str, typed: str) -> None:
    with pytest.raises(InputError, match=f"type {re.escape(str(tmp_path / typed))}$"):
        VideoWriter(tmp_path / name, FPS, HEIGHT, WIDTH)


def test_an_empty_name_is_told_what_to_type() -> None:
    with pytest.raises(InputError, match=r"video is written as MP4, not ''; type overlay\.mp4"):
        VideoWriter(Path(""), FPS, HEIGHT, WIDTH)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write a video to .*; name a folder that you may write to"):
        VideoWriter(tmp_path / "file" / "out.mp4", FPS, HEIGHT, WIDTH)


def test_name_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    for name in ("out.mp4", ".."):
        with pytest.raises(
            InputError, match=f"is a folder; name a video file, such as .*{re.escape(name)}/overlay.mp4"
        ):
            VideoWriter(tmp_path / name, FPS, HEIGHT, WIDTH)

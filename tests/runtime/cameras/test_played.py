"""Files as players show them: their times, orientation, pixels; and what is damage in them and what is not."""

import os
import socket
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import Frame, StreamTruncated, Wanted, open_source
from edgeprune.runtime.cameras.pyav import as_displayed
from edgeprune.runtime.sinks.film import FilmTimes
from tests.runtime.cameras.conftest import FPS, HEIGHT, WIDTH, moving_stripes

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

ONE = 1 << 16


def write(path: Path, times_s: Sequence[float], codec: str = "mpeg4", first: int = 0, **options: Any) -> Path:
    """A frame of the stripes at each time. options: of the stream, such as sample_aspect_ratio, gop_size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 2_000_000
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 10
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(moving_stripes(first + index), format="rgb24")
            frame.pts, frame.time_base = round(time_s * FPS), Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def evenly(count: int) -> list[float]:
    return [index / FPS for index in range(count)]


def read(path: Path) -> tuple[list[Frame], int, Exception | None]:
    """Frames, how many were left out, and what came instead of the end."""
    source = open_source(str(path))
    frames: list[Frame] = []
    try:
        for frame in source:
            frames.append(frame)
    except StreamTruncated as error:
        return frames, source.damaged, error
    return frames, source.damaged, None


def shows(frame: Frame, index: int) -> bool:
    """Whether it is that frame of the stripes, as well as a lossy codec says."""
    return float(np.abs(frame.image_HW3.astype(int) - moving_stripes(index)).mean()) < 25


# --- times ---


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_uneven_times(tmp_path: Path, name: str) -> None:
    times_s = [0, 0.04, 0.08, 2.0, 2.04, 5.28]
    frames, damaged, error = read(write(tmp_path / name, times_s))
    assert [frame.presentation_s for frame in frames] == pytest.approx(times_s, abs=2e-3)
    assert (damaged, error) == (0, None)  # AVI fills the gap with null frames, which repeat the last


def test_times_count_on_in_a_loop(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "a.mkv", [0, 0.04, 1.0])), Wanted(loop=True))
    times_s = [next(source).presentation_s for _ in range(7)]
    assert times_s == pytest.approx([0, 0.04, 1.0, 1.96, 2.0, 2.96, 3.92], abs=3e-3)
    source.close()


def test_realtime_paces_by_the_files_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edgeprune.runtime.cameras.source.time.monotonic", lambda: 100.0 + sum(slept))
    monkeypatch.setattr("edgeprune.runtime.cameras.source.time.sleep", slept.append)
    source = open_source(str(write(tmp_path / "a.mkv", [0, 0.04, 2.0, 2.04])), Wanted(realtime=True))
    assert source.live and source.paced and len(list(source)) == 4
    assert slept == pytest.approx([0, 0.04, 1.96, 0.04], abs=3e-3)


def test_a_gif_has_its_delays(tmp_path: Path) -> None:
    from PIL import Image

    pictures = [Image.fromarray(moving_stripes(index)) for index in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 2000, 100, 100])
    frames, _, error = read(tmp_path / "a.gif")
    assert [frame.presentation_s for frame in frames] == pytest.approx([0, 0.1, 2.1, 2.2])
    assert error is None


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tiff"])
def test_the_first_picture_of_an_animation_is_taken_and_said(tmp_path: Path, name: str) -> None:
    from PIL import Image

    pictures = [Image.fromarray(moving_stripes(index)) for index in range(3)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    source = open_source(str(tmp_path / name))
    assert len(list(source)) == 1 and "is animated: its first picture" in str(source.note)
    pictures[0].save(tmp_path / f"still-{name}")
    assert open_source(str(tmp_path / f"still-{name}")).note is None


def test_two_recordings_joined(tmp_path: Path) -> None:
    """`cat` of transport streams: times go back, and one packet lacks as far as the counters say."""
    for name, first in (("a.ts", 0), ("b.ts", 12)):
        write(tmp_path / name, evenly(12), "mpeg2video", first)
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames, damaged, error = read(tmp_path / "both.ts")
    assert all(shows(frame, index) for index, frame in enumerate(frames))
    assert (len(frames), damaged, error) == (24, 0, None)
    assert [frame.presentation_s for frame in frames] == pytest.approx(evenly(24), abs=1e-3)


@pytest.mark.parametrize(("codec", "suffix"), [
    ("mpeg1video", ".ts"), ("mpeg2video", ".ts"), ("mpeg4", ".ts"), ("mpeg2video", ".mpg"), ("libx264", ".ts"),
    ("libx265", ".ts"), ("mjpeg", ".mjpeg"),
])  # fmt: skip
def test_no_frame_is_lost_where_the_size_changes(tmp_path: Path, codec: str, suffix: str) -> None:
    """Decoders hold the last frames back, as B frames may follow; the new size begins while they do."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    b_frames = {} if codec in ("mjpeg", "mpeg1video") else {"max_b_frames": 2}
    parts = [
        write(tmp_path / f"{name}{suffix}", evenly(12), codec, **b_frames, width=width).read_bytes()
        for name, width in (("a", WIDTH), ("b", 2 * WIDTH), ("c", WIDTH))
    ]
    (tmp_path / f"all{suffix}").write_bytes(b"".join(parts))
    frames, damaged, error = read(tmp_path / f"all{suffix}")
    assert [frame.image_HW3.shape[1] for frame in frames] == [WIDTH] * 12 + [2 * WIDTH] * 12 + [WIDTH] * 12
    assert (damaged, error) == (0, None) and shows(frames[11], 11) and shows(frames[35], 11)


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
def test_a_cut_transport_stream_is_no_failure_and_counted(tmp_path: Path, codec: str) -> None:
    data = write(tmp_path / "a.ts", evenly(24), codec).read_bytes()
    (tmp_path / "joined.ts").write_bytes(data[: len(data) // 2] + data)
    frames, damaged, error = read(tmp_path / "joined.ts")
    first = len(frames) - 24
    assert (error, damaged) == (None, 1) and 9 <= first <= 12
    assert all(shows(frame, index) for index, frame in zip([*range(first), *range(24)], frames, strict=True))


def test_a_time_lapse_gets_a_rate_that_one_can_watch(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "a.mkv", [0, 3600, 7200])))
    times = FilmTimes(source)
    assert times.fps == 15 and times.note is not None and "in 3600 s: the film shows 15 of them" in times.note
    assert [times(frame) for frame in source] == [None] * 3
    source = open_source(str(write(tmp_path / "b.mkv", [0, 0.04, 3.0])))
    times = FilmTimes(source)
    assert times.note is None and [times(frame) for frame in source] == pytest.approx([0, 0.04, 3.0], abs=2e-3)


# --- damage, and what is none ---


def test_a_lossless_trim_is_whole(tmp_path: Path) -> None:
    """An edit list that starts in mid-stream: what is before stays in the file, for the decoder alone."""
    path = write(tmp_path / "a.mp4", evenly(30))
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # flags and count; then the duration in 1/1000 s, and the start in the track's ticks
    duration, start = struct.unpack(">Ii", data[at : at + 8])
    ticks = struct.unpack(">I", data[(mdhd := data.index(b"mdhd") + 16) : mdhd + 4])[0]
    assert (duration, start) == (1200, 0)
    data[at : at + 8] = struct.pack(">Ii", 1200 - 13 * 40, 13 * ticks // FPS)
    path.write_bytes(data)
    frames, damaged, error = read(path)
    assert (len(frames), damaged, error) == (17, 0, None)
    assert shows(frames[0], 13) and frames[0].presentation_s == 0


def test_null_frames_at_the_end_of_an_avi(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.avi", evenly(8), "mjpeg").read_bytes())
    index = data.index(b"idx1") + 8
    last = index + 16 * 7
    offset, size = struct.unpack("<II", data[last + 8 : last + 16])
    chunk = data.index(b"movi") + offset
    assert data[chunk : chunk + 4] == b"00dc"
    data[chunk + 4 : chunk + 16] = struct.pack("<I4sI", 0, b"JUNK", size - 8)  # an empty one, and what was its data
    data[last + 12 : last + 16] = bytes(4)
    (tmp_path / "a.avi").write_bytes(data)
    frames, damaged, error = read(tmp_path / "a.avi")
    assert (len(frames), damaged, error) == (7, 0, None)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("mpeg4", "a.mkv"), ("libx264", "a.mkv")])
def test_damage_that_is_concealed_is_left_out_up_to_the_next_key_frame(tmp_path: Path, codec: str, name: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    options: dict[str, Any] = (
        {"options": {"bf": "2", "sc_threshold": "0", "x264-params": "slices=2"}} if codec == "libx264" else {}
    )
    path = write(tmp_path / name, evenly(30), codec, **options)
    clean, _, error = read(path)
    assert len(clean) == 30 and error is None
    with av.open(str(path)) as container:
        key = next(p for p in container.demux(video=0) if p.is_keyframe and p.pts and p.pts * p.time_base > 0.3)
    data = bytearray(path.read_bytes())
    at = data.index(bytes(key)[40:]) + key.size // 3
    data[at : at + 40] = np.random.default_rng(3).integers(0, 256, 40, np.uint8).tobytes()
    path.write_bytes(data)
    frames, damaged, error = read(path)
    assert error is not None and f"{damaged} damaged ones were left out" in str(error) and "exit" not in str(error)
    assert damaged == 30 - len(frames) and 10 <= damaged <= 13
    whole = {round(frame.presentation_s or 0, 2): frame.image_HW3 for frame in clean}
    for frame in frames:
        np.testing.assert_array_equal(frame.image_HW3, whole[round(frame.presentation_s or 0, 2)])


def test_a_damaged_jpeg_of_a_film(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", evenly(10), "mjpeg")
    with av.open(str(path)) as container:
        fifth = list(container.demux(video=0))[4]
    data = bytearray(path.read_bytes())
    at = data.index(bytes(fifth)) + fifth.size // 2
    data[at : at + 60] = b"\xff\xd5" * 30
    path.write_bytes(data)
    frames, damaged, error = read(path)
    assert (len(frames), damaged) == (9, 1) and isinstance(error, StreamTruncated)


# --- orientation and pixels ---


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((-ONE, 0, 0, ONE), np.fliplr),
        ((ONE, 0, 0, -ONE), np.flipud),
        ((-ONE, 0, 0, -ONE), lambda image: np.rot90(image, 2)),
        ((0, ONE, -ONE, 0), lambda image: np.rot90(image, -1)),
        ((0, -ONE, ONE, 0), lambda image: np.rot90(image, 1)),
        ((0, ONE, ONE, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -ONE, -ONE, 0), lambda image: np.rot90(image.swapaxes(0, 1), 2)),
        ((ONE, 0, 0, ONE), lambda image: image),
    ],
)
def test_mirrored_and_turned(
    make_video: Callable[..., Path], matrix: tuple[int, int, int, int], seen: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = make_video()
    stored = next(open_source(str(path))).image_HW3
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    np.testing.assert_array_equal(next(open_source(str(path))).image_HW3, seen(stored))


def test_other_angles_are_left_alone() -> None:
    image_HW3 = moving_stripes(0)
    assert as_displayed(image_HW3, (46341, 46341, -46341, 46341)) is image_HW3
    np.testing.assert_array_equal(as_displayed(image_HW3, (1, ONE, -ONE, 1)), np.rot90(image_HW3, -1))


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [(Fraction(2), (HEIGHT, 2 * WIDTH)), (Fraction(1, 2), (2 * HEIGHT, WIDTH)), (Fraction(1), (HEIGHT, WIDTH))],
)
def test_pixels_that_are_not_square(tmp_path: Path, aspect: Fraction, shape: tuple[int, int]) -> None:
    frames, _, _ = read(write(tmp_path / "a.mkv", evenly(2), sample_aspect_ratio=aspect))
    assert frames[0].image_HW3.shape[:2] == shape


# --- names and metadata ---


def test_a_colon_in_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "2024-01-01T12:30:01.mp4", evenly(3))
    assert len(list(open_source("2024-01-01T12:30:01.mp4"))) == 3


def test_metadata_that_is_not_utf8(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        container.metadata["title"] = "Strasse"
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_stripes(0), format="rgb24")))
        container.mux(stream.encode(None))
    data = (tmp_path / "a.avi").read_bytes()
    assert data.count(b"Strasse") == 1
    (tmp_path / "a.avi").write_bytes(data.replace(b"Strasse", "Stra\xdfen".encode("latin-1")))
    assert len(list(open_source(str(tmp_path / "a.avi")))) == 1


def test_a_device_is_no_file(tmp_path: Path) -> None:
    os.symlink("/dev/zero", tmp_path / "a.mp4")
    with pytest.raises(InputError, match="is a device; name a file"):
        open_source(str(tmp_path / "a.mp4"))


def test_a_playlist_fetches_nothing(tmp_path: Path) -> None:
    """A file may be a list of addresses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", address, "#EXT-X-ENDLIST")
        (tmp_path / "a.m3u8").write_text("\n".join(lines))
        with pytest.raises(InputError):
            list(open_source(str(tmp_path / "a.m3u8")))
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()

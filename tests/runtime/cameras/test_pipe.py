"""Streams from another program: standard input and named pipes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import Wanted, camera_files, kind_of, open_source, pipe
from edgeprune.runtime.cameras.capture import NewestFrame
from edgeprune.runtime.cameras.source import CameraLost
from tests.runtime.cameras.conftest import HEIGHT, WIDTH, read_until_error

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "camera.fifo"
    os.mkfifo(path)
    return path


def write(path: Path, *blocks: bytes | float) -> None:
    """In a thread: bytes, and pauses in seconds between them."""

    def run() -> None:
        with path.open("wb", buffering=0) as file:
            for block in blocks:
                if isinstance(block, bytes):
                    file.write(block)
                else:
                    time.sleep(block)

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize(
    ("name", "codec"), [("a.ts", "mpeg2video"), ("a.mkv", "mpeg4"), ("a.mjpeg", "mjpeg"), ("a.nut", "rawvideo")]
)
def test_a_stream_by_a_named_pipe(make_video: Callable[..., Path], fifo: Path, name: str, codec: str) -> None:
    data = make_video(name, codec=codec).read_bytes()
    write(fifo, data[:4000], 0.05, data[4000:])
    assert kind_of(str(fifo)) == "pipe" and camera_files(str(fifo)) == []
    source = open_source(str(fifo))
    assert (source.live, source.uri) == (True, str(fifo))
    assert source.unpaced and source.unpaced.startswith(
        f"{fifo} is live, and what writes to it paces it; write as `ffmpeg -re"
    )
    assert next(source).image_HW3.shape == (HEIGHT, WIDTH, 3)
    count, error = read_until_error(source)
    source.close()
    assert (count, error) == (29, None)  # its writer has closed it: the end


def test_silence_is_no_stall(make_video: Callable[..., Path], fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.STALL_S", 0.1)
    data = make_video("a.ts", codec="mpeg2video").read_bytes()
    write(fifo, data, 0.5, data)
    with NewestFrame(open_source(str(fifo))) as capture:
        assert capture.patience_s is None
        taken = 0
        while capture.get(capture.patience_s):
            taken += 1
        assert taken + capture.dropped == 60


def test_nobody_writes(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "OPEN_TIMEOUT_S", 0.2)
    with pytest.raises(
        InputError, match=r"nothing that could be read as video came from .* within 0\.2 s; start what writes"
    ):
        open_source(str(fifo))


def test_what_is_no_video(fifo: Path) -> None:
    write(fifo, b"no video" * 1000)
    with pytest.raises(InputError, match="cannot read .*camera.fifo as video"):
        open_source(str(fifo))


def test_a_file_whose_index_comes_last_is_none_for_a_pipe(make_video: Callable[..., Path], fifo: Path) -> None:
    data = make_video("a.mov", frames=300).read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    write(fifo, data)
    count, error = read_until_error(open_source(str(fifo)))
    assert count == 0 and isinstance(error, InputError)  # exit code 2: no frame ever came
    assert str(error) == (
        "this stream can't be read from a pipe (InvalidDataError: Invalid data found when processing input), as most MP4 and "
        f"MOV files can't; write MPEG-TS or Matroska to {fifo}, or give the file itself to --camera"
    )


def test_a_stream_that_breaks_off_is_no_camera_to_plug_in(
    make_video: Callable[..., Path], fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(fifo, make_video("a.ts", codec="mpeg2video").read_bytes())
    source = open_source(str(fifo))
    packets = source.packets  # type: ignore[attr-defined]

    def broken() -> Iterator[Any]:
        yield from islice(packets(), 8)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source, "packets", broken)
    count, error = read_until_error(source)
    source.close()
    assert count > 0 and isinstance(error, CameraLost)
    assert (
        str(error) == f"the stream from {fifo} breaks off (EIO: Input/output error); check what writes it and run again"
    )


def test_a_pipe_is_live_anyway(fifo: Path) -> None:
    with pytest.raises(InputError, match="has no end to start again at; leave --loop out"):
        open_source(str(fifo), Wanted(loop=True))


COUNT = """
from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import open_source
try:
    source = open_source("-")
    print(sum(1 for _ in source), source.uri)
    source.close()
except InputError as error:
    print(error)
"""


def said(stdin: int | None, data: bytes | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], stdin=stdin, input=data, cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_ctrl_c_while_nothing_comes() -> None:
    """PyAV prints the exception of a callback, and goes on."""
    stop = "threading.Timer(0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()"
    code = f"import signal, threading\n{stop}\n{COUNT}"
    reader, writer = os.pipe()
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=reader, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    os.close(reader)
    os.close(writer)
    assert done.returncode != 0 and done.stderr.endswith("KeyboardInterrupt\n") and "ignored" not in done.stderr
    assert time.monotonic() - began_s < 10


def test_standard_input(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video("a.ts", codec="mpeg2video")
    assert said(None, path.read_bytes()) == "30 -"
    with path.open("rb") as file:
        assert said(file.fileno()) == "standard input is a file; give its name to --camera"
    assert said(subprocess.DEVNULL).startswith("cannot read standard input as video (")
    terminal, other = os.openpty()
    try:
        assert said(other) == "standard input is a terminal; pipe a video stream into it"
    finally:
        os.close(terminal)
        os.close(other)

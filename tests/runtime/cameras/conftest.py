"""Small videos and images made on the spot, and sources that misbehave on cue."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeprune.runtime.cameras.source import FrameSource, Picture

HEIGHT, WIDTH, FPS = 64, 96, 25


def moving_stripes(index: int) -> np.ndarray:
    """image_HW3: a coarse pattern that moves 4 pixels a frame, so that frames differ and compress badly enough."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    return np.roll(np.kron(noise, np.ones((4, 4, 1), np.uint8)), 4 * index, axis=1)


def read_until_error(source: FrameSource) -> tuple[int, BaseException | None]:
    """How many frames come, and what comes instead of the end."""
    count = 0
    try:
        for _ in source:
            count += 1
    except Exception as error:
        return count, error
    return count, None


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video(name, frames, movflags, codec): its index comes first, so that a cut-off copy can be opened."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

    def make(name: str = "stripes.mp4", frames: int = 30, movflags: str = "faststart", codec: str = "mpeg4") -> Path:
        path = tmp_path / name
        options = {"movflags": movflags} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=FPS)
            stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 2_000_000
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_stripes(index), format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return make


class Scripted(FrameSource):
    """Delivers `count` frames, then does what it is told: ends, raises, or blocks until released."""

    def __init__(self, count: int, *, live: bool, then: BaseException | None = None, block: bool = False):
        super().__init__("scripted", live=live, fps=None)
        self.count, self.then, self.block = count, then, block
        self.release = threading.Event()
        self.read = 0
        self.closed = threading.Event()

    def one_pass(self) -> Iterator[Picture]:
        for index in range(self.count):
            self.read += 1
            yield Picture(np.full((2, 2, 3), index, np.uint8))
        if self.block:
            self.release.wait()
        if self.then is not None:
            raise self.then

    def close(self) -> None:
        super().close()
        self.closed.set()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """scripted(count, live=, then=, block=): a Scripted source; those that block are released after the test."""
    made: list[Scripted] = []

    def make(count: int, *, live: bool, then: BaseException | None = None, block: bool = False) -> Scripted:
        made.append(Scripted(count, live=live, then=then, block=block))
        return made[-1]

    yield make
    for source in made:
        source.release.set()


def certificate(folder: Path) -> Path:
    """A self-signed one of 127.0.0.1, with its key."""
    path = folder / "camera.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += [
        "-subj",
        "/CN=camera",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(path),
        "-out",
        str(folder / "c"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no certificate can be made here ({error})")
    with path.open("a") as file:
        file.write((folder / "c").read_text())
    return path

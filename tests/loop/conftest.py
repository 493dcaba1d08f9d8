"""A tiny bundle, sources that misbehave on cue, and meters that count."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeprune.bundle import Bundle
from edgeprune.camera.source import FrameSource, Picture
from edgeprune.energy import Energy
from edgeprune.engines import ENGINES, Session
from tests import bundles


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("loop") / "tiny")


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Session:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    return ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)


class Scripted(FrameSource):
    """Frames with 0, 1, 2, ... bright cells; after the last it ends or raises."""

    def __init__(self, count: int, *, then: BaseException | None = None, live: bool = False, fps: float | None = None):
        super().__init__("scripted", live=live, fps=fps)
        self.count, self.then = count, then

    def one_pass(self) -> Iterator[Picture]:
        for index in range(self.count):
            yield Picture(scripted_frame(index))
        if self.then is not None:
            raise self.then


def scripted_frame(index: int) -> np.ndarray:
    return bundles.frame_with(index % (bundles.N + 1), seed=index)


class CountingMeter:
    """2 W on the rail IN and 1 W on CPU, which IN contains, for a run of 10 s whatever it took."""

    name = "counting"

    def __init__(self) -> None:
        self.started = self.stopped = 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> Energy:
        self.stopped += 1
        return Energy("measured by a fake", {"IN": 20.0, "CPU": 10.0}, 20.0, ("IN",), 11, 10.0, 1.0)


@pytest.fixture
def make_png_folder(tmp_path: Path) -> Callable[[int], Path]:
    """make_png_folder(count): a folder of scripted frames."""
    from PIL import Image

    def make(count: int) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        for index in range(count):
            Image.fromarray(scripted_frame(index)).save(folder / f"{index:03d}.png")
        return folder

    return make

"""A tiny bundle, its session, and a folder of images."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES, Session
from tests import bundles
from tests.runtime.loop.fakes import scripted_frame


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("loop") / "tiny")


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Session:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    return ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)


@pytest.fixture
def make_png_folder(tmp_path: Path) -> Callable[[int], Path]:
    """make_png_folder(count): a folder of scripted frames."""

    def make(count: int) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        for index in range(count):
            Image.fromarray(scripted_frame(index)).save(folder / f"{index:03d}.png")
        return folder

    return make

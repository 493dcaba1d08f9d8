"""A bundle for a device that compiles, and what runs on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.bundle import Bundle, open_bundle, write_manifest
from tests import bundles

ROWS = [("trunk", each) for each in ("fp32", "int8")] + [
    (bucket, each) for bucket in ("quarter", "half", "full") for each in ("fp32", "int8")
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a bundle for a device that compiles."""
    made = tmp_path_factory.mktemp("compile") / "bundle"
    bundles.write_bundle(made, engine="tensorrt", compiled_on_device=True)
    return made


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def one_picture(folder: Path, bright_cells: int) -> Path:
    """A folder with one frame."""
    pictures = folder / "pictures"
    pictures.mkdir()
    Image.fromarray(bundles.frame_with(bright_cells)).save(pictures / "frame.png")
    return pictures


def spoil(bundle: Bundle, *keys: str) -> None:
    """Other labels in the bundle's references, of these graphs."""
    path = bundle.path(bundle.manifest.references)
    with np.load(path) as content:
        wrong = {name: (array + 1 if name in keys else array) for name, array in content.items()}
    np.savez(path, **wrong)
    write_manifest(bundle.folder, bundle.manifest)

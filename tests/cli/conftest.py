"""The command line as a user types it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from edgeprune.cli import main
from tests import bundles
from tests.cli.compiled import bundle, folder
from tests.runtime.engines.jetson import jetson, thor

__all__ = ["bundle", "edgeprune", "folder", "frames", "jetson", "thor", "tiny"]


class Said(NamedTuple):
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Type = Callable[..., Said]


@pytest.fixture
def edgeprune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Type:
    """edgeprune("run", "--camera", ...) in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["edgeprune", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        streams = capsys.readouterr()
        return Said(int(stopped.value.code or 0), streams.out, streams.err)

    return invoke


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle whose answers can be checked by hand (see `tests/bundles.py`)."""
    folder = tmp_path_factory.mktemp("cli") / "bundle"
    bundles.write_bundle(folder)
    return folder


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Six frames with 3 to 8 bright cells: the buckets are known."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for bright in range(3, 9):
        Image.fromarray(bundles.frame_with(bright)).save(folder / f"{bright}.png")
    return folder

"""A TensorRT and a CUDA that are fakes, in each version that a JetPack may bring."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES, Session, cuda, trt_runtime
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.fake_cuda import FakeCudart

ENGINE = ENGINES["tensorrt"]
VERSIONS = ["10.3.0", "10.16.1", "11.0.0"]  # JetPack 6.1, JetPack 7.2, and what comes after


@dataclass
class Jetson:
    """A device: its libraries, its cache; another process on it sees the same cache."""

    trt: Any
    cudart: FakeCudart
    cache: Path
    monkeypatch: pytest.MonkeyPatch

    def restart(self, version: str | None = None, cudart: FakeCudart | None = None) -> None:
        """As a new process, after an update where a version is given."""
        self.cudart = cudart or FakeCudart()
        self.trt = fake_tensorrt.make(version or self.trt.__version__, self.cudart)
        self.monkeypatch.setitem(sys.modules, "tensorrt", self.trt)
        self.monkeypatch.setattr(cuda, "load_library", lambda: self.cudart)
        cuda.open_cuda.cache_clear()
        trt_runtime.open_runtime.cache_clear()


@pytest.fixture(params=VERSIONS)
def jetson(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jetson]:
    yield from device_with(request.param, monkeypatch, tmp_path)


@pytest.fixture
def thor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jetson]:
    """In one version, where versions make no difference."""
    yield from device_with(VERSIONS[1], monkeypatch, tmp_path)


def device_with(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jetson]:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    cudart = FakeCudart()
    device = Jetson(fake_tensorrt.make(version, cudart), cudart, tmp_path / "cache" / "plans", monkeypatch)
    device.restart()
    yield device
    cuda.open_cuda.cache_clear()
    trt_runtime.open_runtime.cache_clear()


def graphs(bundle: Bundle, precision: str = "fp32") -> list[Path]:
    found = bundle.graphs(precision)
    return [bundle.path(path) for path in (found.trunk, *found.tails.values())]


def prepared(bundle: Bundle, precision: str = "fp32") -> Session:
    ENGINE.prepare(graphs(bundle, precision))
    return ENGINE.open(bundle, precision)

"""A bundle that remembers, built once, and frames for it: what tests of memory between frames share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.cli import main
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.memory import plan_memory
from edgeprune.export.spec import describe_build, reference_and_export_models
from edgeprune.model.memory import Remembering
from edgeprune.runtime import switching
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.memory_session import MemorySession
from tests import models
from tests.export.conftest import small
from tests.shared import made_once

CPU_ENGINES = ["onnxruntime", "openvino"]
TOKENS = models.N
TAKES_MS = switching._takes_ms
FRAMES = 12


@pytest.fixture(scope="session")
def remembers(inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = small("onnx-cpu", 2).model_copy(update={"parity": Parity(int8=0.9)})
    made = made_once(
        tmp_path_factory,
        "memory",
        lambda folder: build(target, replace(inputs, memory=True), ["int8", "fp32"], folder / "bundle"),
    )
    return open_bundle(made / "bundle")


@pytest.fixture(scope="session")
def orin_remembers(inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = small("jetson-orin", 2).model_copy(update={"parity": Parity(int8=0.9, fp16=0.99)})
    made = made_once(
        tmp_path_factory,
        "memory-orin",
        lambda folder: build(target, replace(inputs, memory=True), ["int8", "fp16"], folder / "bundle"),
    )
    return open_bundle(made / "bundle")


@pytest.fixture(autouse=True)
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether remembering pays hangs on the machine, of graphs as small as these."""
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 1.0 if running.bundle.remembers else 2.0)


@pytest.fixture(params=CPU_ENGINES)
def session(remembers: Bundle, request: pytest.FixtureRequest) -> Iterator[MemorySession]:
    opened = ENGINES[request.param].open(remembers.with_memory(), "fp32", threads=1)
    assert isinstance(opened, MemorySession)
    with closing(opened):
        yield opened


@pytest.fixture(scope="session")
def torch_side(inputs: BuildInputs) -> Remembering:
    spec = describe_build(small("onnx-cpu", 2), inputs, ["fp32"])
    model, _ = reference_and_export_models(spec.model, "fp32", "onnxruntime")
    return plan_memory(spec.model, spec.frames_FHW3).of(model)


def stream(count: int = FRAMES) -> list[np.ndarray]:
    """Frames in which one patch changes, another each time, with a sensor's noise: without it tokens that stay are equally far
    from what they were, and each side may choose others of them."""
    first, other = models.frames(2)
    drawn, found = np.random.default_rng(0), []
    for number in range(count):
        frame_HW3 = first.copy()
        row, column = 16 * (number % 4), 16 * (number % 6)
        frame_HW3[row : row + 16, column : column + 16] = other[row : row + 16, column : column + 16]
        noisy_HW3 = frame_HW3 + drawn.normal(0, 2, frame_HW3.shape)
        found.append(noisy_HW3.clip(0, 255).astype(np.uint8))
    return found


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a line prints."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["edgeprune", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run

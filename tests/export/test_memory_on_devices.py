"""A bundle that remembers, on a device that compiles its graphs: the fake of TensorRT."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.memory import STILL
from edgeprune.runtime.engines import trt_runtime
from edgeprune.runtime.engines.bound import Outputs
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.engines.trt_runtime import open_runtime
from edgeprune.runtime.switching import Switching
from tests import models
from tests.cli.compiled import spoil
from tests.export.remembering import TOKENS, orin_remembers, pays
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs, thor
from tests.runtime.engines.test_close import NOTHING

__all__ = ["orin_remembers", "pays", "thor"]


def test_the_state_is_in_half_and_never_leaves_the_device(orin_remembers: Bundle, thor: Jetson) -> None:
    """Two sets of device memory, which frames exchange; scores and labels are all that comes back."""
    bundle = orin_remembers.with_memory()
    assert bundle.manifest.memory
    assert {tensor.type for tensor in bundle.manifest.memory.state["fp16"]} == {"float16"}
    ENGINE.prepare(graphs(bundle, "fp16"))
    with closing(ENGINE.open(bundle, "fp16")) as session:
        first_HW3, second_HW3 = models.frames(2)
        assert session.start(first_HW3) == TOKENS
        first_HW = session.finish("m8")["labels"]
        assert session.start(first_HW3) == 0
        assert np.array_equal(session.finish(STILL)["labels"], first_HW)
        thor.cudart.copies.clear()
        assert session.start(second_HW3) > TOKENS // 2
        second_HW = session.finish("m16")["labels"]
        came = [("in", second_HW3.nbytes), ("in", 8), ("out", 4 * TOKENS), ("out", second_HW.nbytes)]
        assert thor.cudart.copies == came and (first_HW != second_HW).any()
        # a context for each set, the weights once
        assert thor.cudart.live()["executables"] == 2 * thor.cudart.live()["engines"] == 2 * len(graphs(bundle, "fp16"))
    assert thor.cudart.live() == NOTHING


def test_a_run_takes_the_memory(orin_remembers: Bundle, thor: Jetson) -> None:
    frame_HW3 = models.frames(1)[0]
    with edgeprune.open(orin_remembers.folder) as opened:
        assert [opened.segment(frame_HW3).facts.bucket for _ in range(2)] == [f"m{TOKENS}", STILL]
    assert thor.cudart.live() == NOTHING


def sizes(paths: list[Path]) -> list[int]:
    return [open_runtime().plans.size(path) for path in paths]


def test_a_memory_gets_the_room_that_frames_by_themselves_leave(
    orin_remembers: Bundle, thor: Jetson, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own, memory = graphs(orin_remembers, "fp16"), graphs(orin_remembers.with_memory(), "fp16")
    ENGINE.prepare([*own, *memory])
    trunk, *_, last = sizes(memory)
    least = sum(sizes(own)) + trunk + last
    for limit, names in (
        (least, [STILL, f"m{TOKENS}"]),
        (sum(sizes([*own, *memory])), [STILL, "m8", "m16", f"m{TOKENS}"]),
    ):
        monkeypatch.setattr(trt_runtime.Runtime, "memory_limit", lambda self, limit=limit: limit)
        assert ENGINE.able(orin_remembers.with_memory(), "fp16", own)[0] == names
    monkeypatch.setattr(trt_runtime.Runtime, "memory_limit", lambda self: least - 1)
    with edgeprune.open(orin_remembers.folder, precision="fp16") as opened:
        own_buckets = {bucket.name for bucket in orin_remembers.manifest.buckets}
        assert opened.segment(models.frames(1)[0]).facts.bucket in own_buckets
    assert f"memory is left out: trunk and bucket m{TOKENS} in fp16 can't be opened: out of memory" in caplog.text


def test_a_precision_that_the_device_rejects_is_none_of_the_memory_either(
    orin_remembers: Bundle, thor: Jetson, tmp_path: Path
) -> None:
    shutil.copytree(orin_remembers.folder, tmp_path / "bundle")
    made = open_bundle(tmp_path / "bundle")
    assert made.with_memory().default_precision() == "int8"
    spoil(made, *(f"int8/{bucket.name}" for bucket in made.manifest.buckets))
    with edgeprune.open(made.folder) as opened:
        assert isinstance(opened._running, Switching)
        ways = opened._running.alone, opened._running.remembering
        assert [way.session.describe()["precision"] for way in ways] == ["fp16", "fp16"]


def test_a_memory_that_answers_otherwise_is_left_out(
    orin_remembers: Bundle, thor: Jetson, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finish = MemorySession.finish

    def wrong(session: MemorySession, bucket: str) -> Outputs:
        return {name: array + 1 for name, array in finish(session, bucket).items()}

    monkeypatch.setattr(MemorySession, "finish", wrong)
    with edgeprune.open(orin_remembers.folder) as opened:
        assert not isinstance(opened._running, Switching)
    assert f"memory is left out: m{TOKENS} in " in caplog.text and " gives 0.00% of the labels" in caplog.text

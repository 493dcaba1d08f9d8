"""What is opened is given back whole: when it is closed, and when opening it fails half-way."""

import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.trt_runtime import open_runtime
from tests import bundles
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs, prepared

DENSE = "graphs/dense.onnx"
NOTHING = {"device": 0, "host": 0, "graphs": 0, "executables": 0, "engines": 0}


def test_nothing_is_left_of_fifty_sessions_and_graphs(thor: Jetson, bundle: Bundle) -> None:
    prepared(bundle).close()
    ENGINE.prepare([bundle.path(DENSE)])
    assert thor.cudart.live() == NOTHING
    for _ in range(50):
        session, dense = ENGINE.open(bundle, "fp32"), ENGINE.open_graph(bundle.path(DENSE))
        assert thor.cudart.live()["executables"] == 5 and thor.cudart.live()["engines"] == 5
        session.close()
        dense.close()
        session.close()
        assert thor.cudart.live() == NOTHING
    assert open_runtime().scratch.size == 0


def test_the_scratch_goes_with_the_last_of_them(jetson: Jetson, bundle: Bundle) -> None:
    first, second = prepared(bundle), ENGINE.open(bundle, "fp32")
    first.close()
    assert open_runtime().scratch.size > 0
    bundles.check_answers(second)  # what it works on is still there
    second.close()
    assert open_runtime().scratch.size == 0


def test_what_runs_out_of_memory_half_way_leaves_nothing(
    thor: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its allocations is the one that fails."""
    ENGINE.prepare(graphs(bundle))
    left = 1_000

    for name in ("cudaMalloc", "cudaHostAlloc", "cudaGraphInstantiate"):
        real = getattr(thor.cudart, name)

        def call(*arguments: Any, real: Any = real) -> int:
            nonlocal left
            left -= 1
            return 2 if left < 0 else int(real(*arguments))

        monkeypatch.setattr(thor.cudart, name, call)
    ENGINE.open(bundle, "fp32").close()
    needed = 1_000 - left
    assert needed > 20
    for allowed in range(needed):
        left = allowed
        with pytest.raises(RunError, match="out of memory"):
            ENGINE.open(bundle, "fp32")
        assert thor.cudart.live() == NOTHING, allowed
    left = needed
    session = ENGINE.open(bundle, "fp32")
    bundles.check_answers(session)
    session.close()
    assert thor.cudart.live() == NOTHING


def test_scratch_that_cannot_grow_leaves_the_others_theirs(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, frame_HW3 = prepared(bundle), bundles.frame_with(9)
    jetson.trt.bytes_per_node = 1 << 28  # more than the device has
    ENGINE.prepare([bundle.path(DENSE)])
    with pytest.raises(RunError, match="cudaMalloc: out of memory"):
        ENGINE.open_graph(bundle.path(DENSE))
    assert session.start(frame_HW3) == 9
    assert np.array_equal(session.finish("half")["labels"], bundles.expected_labels(frame_HW3, "half"))
    session.close()
    assert jetson.cudart.live() == NOTHING


def test_a_graph_that_is_none_of_a_frame_leaves_nothing(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle).close()
    with pytest.raises(InputError, match="does not turn a 'frame'"):
        ENGINE.open_graph(graphs(bundle)[0])
    assert jetson.cudart.live() == NOTHING


def test_a_device_that_fails_is_closed_without_another_error(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault CUDA answers every call with an error; the reason is the first one, and a run's record is kept."""
    session = prepared(bundle)
    for name in ("cudaStreamSynchronize", "cudaFree", "cudaFreeHost", "cudaGraphExecDestroy"):
        monkeypatch.setattr(jetson.cudart, name, lambda *_: 1)
    with pytest.raises(RunError, match="cudaStreamSynchronize: invalid argument"):
        session.start(bundles.frame_with(1))
    session.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "onnxruntime-fp16"])
def test_the_cpus_engines_give_back_as_well(name: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    module = name.removesuffix("-fp16")
    pytest.importorskip(module, reason=f"needs {module}: pip install {module}")
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    kind = type(ENGINES[name])
    real: Any = kind.bind

    def bind(*arguments: Any, **named: Any) -> Any:
        made = real(*arguments, **named)
        alive.add(made._session if module == "onnxruntime" else made._request)
        return made

    monkeypatch.setattr(kind, "bind", bind)
    session, dense = ENGINES[name].open(bundle, "fp32"), ENGINES[name].open_graph(bundle.path(DENSE))
    bundles.check_answers(session)
    assert len(alive) == 5
    session.close()
    dense.close()
    gc.collect()
    assert len(alive) == 0 and sys.getrefcount(session) > 0  # the closed ones are still held here
    session.close()


def test_a_tail_that_does_not_open_closes_the_trunk(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    engine = ENGINES["onnxruntime"]
    real = type(engine).bind  # type: ignore[attr-defined]

    def bind(self: Any, path: Any, *arguments: Any) -> Any:
        if path.stem == "fp32-tail-half":
            raise InputError("can't read it")
        made = real(self, path, *arguments)
        monkeypatch.setattr(made, "close", lambda: closed.append(path.stem))
        return made

    monkeypatch.setattr(type(engine), "bind", bind)
    with pytest.raises(InputError, match="can't read it"):
        engine.open(bundle, "fp32")
    assert closed == ["fp32-tail-quarter", "fp32-trunk"]

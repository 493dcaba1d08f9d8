"""A bundle that is opened in a thread of its own beside one that runs, as a new one is under a service: on the fake of CUDA,
whose calls stop where the other thread would come in between. With the lock it does not come, and the wait ends by itself."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.trt_runtime import open_runtime
from tests import bundles
from tests.runtime.engines.jetson import ENGINE, Jetson, prepared

DENSE = "graphs/dense.onnx"
WAIT_S = 0.5


def once(
    thor: Jetson, monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[[], object], before: bool = False
) -> None:
    """Behind the first call of a function of CUDA from here on, or before it."""
    real, waiting = getattr(thor.cudart, name), [do]

    def call(*arguments: Any) -> int:
        if waiting and before:
            waiting.pop()()
        code = int(real(*arguments))
        if waiting:
            waiting.pop()()
        return code

    monkeypatch.setattr(thor.cudart, name, call)


def check_frame(session: Session) -> None:
    frame_HW3 = bundles.frame_with(9)
    assert session.start(frame_HW3) == 9
    assert np.array_equal(session.finish("half")["labels"], bundles.expected_labels(frame_HW3, "half"))


def test_a_frame_while_another_graph_is_captured(thor: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would land in the capture, and waiting for it would end both."""
    session = prepared(bundle)
    ENGINE.prepare([bundle.path(DENSE)])
    captures, ran = threading.Event(), threading.Event()

    def let_the_other_run() -> None:
        captures.set()
        ran.wait(WAIT_S)

    once(thor, monkeypatch, "cudaStreamBeginCapture", let_the_other_run)
    with ThreadPoolExecutor(1) as other:
        opening = other.submit(ENGINE.open_graph, bundle.path(DENSE))
        assert captures.wait(60)
        check_frame(session)
        ran.set()
        frame_HW3 = bundles.frame_with(5)
        assert np.array_equal(opening.result()(frame_HW3)["labels"], bundles.expected_dense(frame_HW3))
    check_frame(session)


def test_a_frame_while_another_graph_needs_more_memory(
    thor: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run on memory that was freed between the look at its address and the launch."""
    session, opened = prepared(bundle), threading.Event()
    thor.trt.bytes_per_node = 100_000
    ENGINE.prepare([bundle.path(DENSE)])
    generation = open_runtime().scratch.generation
    with ThreadPoolExecutor(1) as other:

        def open_dense() -> None:
            ENGINE.open_graph(bundle.path(DENSE))
            opened.set()

        done = []

        def let_the_other_open() -> None:
            done.append(other.submit(open_dense))
            opened.wait(WAIT_S)

        once(thor, monkeypatch, "cudaGraphLaunch", let_the_other_open, before=True)
        check_frame(session)
        done[0].result()
    assert open_runtime().scratch.generation > generation
    check_frame(session)

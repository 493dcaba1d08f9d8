"""A frame through TensorRT's engine, on the fake: what it answers, what it copies, what it holds."""

import numpy as np
import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.engines.trt_runtime import open_runtime
from tests import bundles
from tests.runtime.engines.jetson import ENGINE, Jetson, prepared


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_counts_and_labels(jetson: Jetson, bundle: Bundle, precision: str) -> None:
    bundles.check_answers(prepared(bundle, precision))


def test_a_count_and_labels_are_all_that_comes_back(jetson: Jetson, bundle: Bundle) -> None:
    session = prepared(bundle)
    frame_HW3 = bundles.frame_with(5)
    jetson.cudart.copies.clear()
    jetson.cudart.launches = 0
    count = session.start(frame_HW3)
    labels_HW = session.finish("half")["labels"]
    assert count == 5
    assert jetson.cudart.copies == [("in", frame_HW3.nbytes), ("out", 4), ("out", labels_HW.nbytes)]
    assert jetson.cudart.launches == 2  # one CUDA graph each, whatever is in it


def test_labels_of_earlier_calls_stay_as_they_were(jetson: Jetson, bundle: Bundle) -> None:
    session = prepared(bundle)
    first_HW3, second_HW3 = bundles.frame_with(4, seed=1), bundles.frame_with(20, seed=2)
    session.start(first_HW3)
    labels_HW = session.finish("half")["labels"]
    session.start(second_HW3)
    session.finish("half")
    assert np.array_equal(labels_HW, bundles.expected_labels(first_HW3, "half"))


def test_all_contexts_share_the_largest_ones_activations(jetson: Jetson, bundle: Bundle) -> None:
    session = prepared(bundle)
    sizes = [1000 * len(network.model.graph.node) for network, _ in jetson.trt.built]
    assert len(sizes) == 4 and len(set(sizes)) > 1
    assert session.describe()["activations_mb"] == round(max(sizes) / 1e6, 1)
    assert sum(size == max(sizes) for _, size in jetson.cudart.device.values()) == 1


def test_a_larger_graph_that_is_opened_later_renews_the_others(jetson: Jetson, bundle: Bundle) -> None:
    """Its activations need a larger block; the addresses in the captured graphs of before are of the one that was freed."""
    session, frame_HW3 = prepared(bundle), bundles.frame_with(9)
    session.start(frame_HW3)
    labels_HW = session.finish("half")["labels"]
    jetson.trt.bytes_per_node = 100_000
    ENGINE.prepare([bundle.path("graphs/dense.onnx")])
    before = open_runtime().scratch.generation
    dense = ENGINE.open_graph(bundle.path("graphs/dense.onnx"))
    assert open_runtime().scratch.generation > before
    assert np.array_equal(dense(frame_HW3)["labels"], bundles.expected_dense(frame_HW3))
    session.start(frame_HW3)
    assert np.array_equal(session.finish("half")["labels"], labels_HW)


def test_it_says_what_really_runs(jetson: Jetson, bundle: Bundle) -> None:
    described = prepared(bundle).describe()
    assert described["engine"] == "tensorrt" and described["version"] == jetson.trt.__version__
    assert described["provider"] == "GPU (sm_87, 8 multiprocessors), CUDA 12.6"

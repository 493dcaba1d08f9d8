"""Every policy of POLICIES as graphs: constant shapes, PyTorch's answers in ONNX Runtime, nothing the lint objects to."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from edgeprune.bundle.target import BucketFamily, load_target
from edgeprune.export.family import ROWS, place_buckets
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import GraphFamily, export_dense, export_family
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import WatchedGraph, measure_parity
from edgeprune.export.simplify import kinds_of
from edgeprune.export.spec import reference_and_export_models
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods import POLICIES
from edgeprune.quantize.calibrate import calibrate_thresholds
from tests import models

CPU, ORIN = load_target("onnx-cpu"), load_target("jetson-orin")
EXPORTABLE: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in POLICIES if name != "dense" and not models.policy(name).not_exportable),
    # a class token and a register; convolutions beside the patch embedding
    ("svit", {"extra": 2, "stem": "patch-conv"}),
]
# the same beside attention that scores, beside merging and exits; and without preservation
IN_MINUTES = [
    pytest.param(form, marks=pytest.mark.slow)
    for form in (*((name, {"extra": 2}) for name in ("evit", "step", "algm")), ("svit", {"preservation": False}))
]


@pytest.fixture(scope="module", params=[*EXPORTABLE, *IN_MINUTES], ids=lambda form: "-".join((form[0], *form[1])))
def form(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A policy and its options."""
    return request.param


@pytest.fixture(scope="module")
def model(form: tuple[str, dict[str, Any]]) -> Segmenter:
    name, options = form
    return models.model(models.card(name, depth=4 if name in DEEP else 3, quantized=True, **options))


@pytest.fixture(scope="module")
def buckets(model: Segmenter) -> list[Bucket]:
    """As `build` places them, by occupancy on frames of the street; by the targets where gates that look at the whole frame,
    untrained, want all of one frame and nothing of the next."""
    _, occupancy_FG = calibrate_thresholds(model, models.images(8))
    for count, measured_FG in ((2, occupancy_FG), (3, occupancy_FG), (3, None)):  # few buckets: each is exported
        placed = place_buckets(model.policy.schedule, BucketFamily(count=count, multiple=8), measured_FG)
        if len(placed) > 1:
            return placed
    # four patches merge to one: on 24 tokens no count but theirs is one of rows in eights
    asked = model.policy.schedule.round_up(model.policy.schedule.target_counts)
    return [Bucket("target", asked), *placed]


# policies whose graph of the full grid is exported too: nothing is chosen in it, of all policies alike
WHOLE: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in ("cts-svit", "dynaprune")]
# INT8 is in the linears of blocks, which all policies have alike; this one has merging and gates
IN_INT8: list[tuple[str, dict[str, Any]]] = [("cts-svit", {})]
DEEP = ("algm", "combined", "dynamicvit", "dynaprune", "evit", "step")  # they decide before each of three blocks


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, form: tuple[str, dict[str, Any]], buckets: list[Bucket]) -> list[Bucket]:
    """The buckets that are exported."""
    return buckets if form in WHOLE or request.config.getoption("--slow") else buckets[:-1]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def family(
    request: pytest.FixtureRequest, form: tuple[str, dict[str, Any]], model: Segmenter, exported: list[Bucket]
) -> tuple[str, Segmenter, GraphFamily]:
    """precision, the PyTorch model, its graphs in TensorRT's dialect, which ONNX Runtime takes too."""
    if request.param == "int8" and form not in IN_INT8 and not request.config.getoption("--slow"):
        pytest.skip("INT8 of every policy takes minutes; run with --slow")
    reference, graph_model = reference_and_export_models(model, request.param, ORIN.dialect)
    thresholds, _ = calibrate_thresholds(reference, models.images(8))
    return request.param, reference, export_family(graph_model, exported, thresholds, ORIN.dialect)


def test_buckets_are_feasible_and_rise(model: Segmenter, buckets: list[Bucket]) -> None:
    assert len(buckets) >= 2
    for bucket in buckets:
        assert model.policy.schedule.round_up(bucket.counts) == bucket.counts
    works = [model.policy.schedule.token_layers(bucket.counts) for bucket in buckets]
    assert works == sorted(set(works)) and works[-1] == models.N * model.spec.depth


def unsorted(proto: ModelProto) -> ModelProto:
    """A copy whose TopK name what they take in any order, as in graphs for a CPU: no answer may hang on the order."""
    copy = ModelProto.FromString(proto.SerializeToString())
    for node in copy.graph.node:
        for item in node.attribute:
            if node.op_type == "TopK" and item.name == "sorted":
                item.i = 0
    return copy


def test_the_engine_answers_as_pytorch_does(family: tuple[str, Segmenter, GraphFamily], exported: list[Bucket]) -> None:
    precision, reference, graphs = family
    rows = measure_parity(reference, exported, precision, graphs.changed(unsorted), models.frames(4), threads=1)
    assert rows and [row.bucket for row in rows] == [bucket.name for bucket in exported]
    for row in rows:
        assert row.label_agreement > (0.9999 if precision == "fp32" else 0.97), row
        if precision == "fp32":
            assert row.max_abs < 0.05 and row.selection_agreement in (None, 1.0), row


@pytest.mark.slow
def test_int8_for_a_cpu_answers_as_pytorch_does(model: Segmenter, buckets: list[Bucket]) -> None:
    """In ONNX Runtime's own dialect, which has other products than TensorRT's."""
    reference, graph_model = reference_and_export_models(model, "int8", CPU.dialect)
    graphs = export_family(graph_model, buckets, [0.0] * len(model.policy.gated), CPU.dialect)
    for row in measure_parity(reference, buckets, "int8", graphs, models.frames(4), threads=1):
        assert row.label_agreement > 0.97, row


def test_a_frame_asks_for_what_calibration_counted(
    family: tuple[str, Segmenter, GraphFamily],
) -> None:
    precision, reference, graphs = family
    _, occupancy_FG = calibrate_thresholds(reference, models.images(8))
    watched = WatchedGraph(graphs.trunk, threads=1)
    for frame_HW3, shares_G in zip(models.frames(8), occupancy_FG, strict=True):
        count = int(np.asarray(watched.run({"frame": frame_HW3})["count"]))
        assert abs(count - shares_G[reference.policy.schedule.chosen_by] * models.N) <= (
            0.5 if precision == "fp32" else 3
        )


def test_lint_finds_nothing_for_any_target(family: tuple[str, Segmenter, GraphFamily]) -> None:
    _, _, graphs = family
    for name, proto in graphs.named().items():
        assert lint_graph(name, proto, CPU.lint) == []
        typed = to_fp16(proto)
        assert lint_graph(name, typed, ORIN.lint) == []
        assert rounded_before_topk(typed) == []


# what hands FP16 on to whatever scores are made of: products and the residual stream
OF_BLOCKS = ("Add", "Conv", "Gemm", "LayerNormalization", "MatMul", "Softmax")


def rounded_before_topk(proto: ModelProto) -> list[str]:
    """Operators that round scores to FP16 on their way to a TopK or out of the trunk."""
    kinds = kinds_of(proto)
    made_by = {name: node for node in proto.graph.node for name in node.output}
    waiting = [node.input[0] for node in proto.graph.node if node.op_type == "TopK"]
    waiting += [value.name for value in proto.graph.output if value.name == "scores"]
    rounded = []
    while waiting:
        name = waiting.pop()
        node = made_by.get(name)
        if node is not None and kinds[name][0] == TensorProto.FLOAT16:
            if node.op_type not in OF_BLOCKS or len(kinds[name][1]) == 1:  # scores have one dimension
                rounded.append(node.op_type)
        elif node is not None and node.op_type not in ("Gemm", "MatMul", "Softmax", "LayerNormalization"):
            waiting += node.input
    return rounded


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lint_finds_nothing_in_any_graph_for_a_jetson(model: Segmenter, buckets: list[Bucket], precision: str) -> None:
    _, graph_model = reference_and_export_models(model, precision, ORIN.dialect)
    graphs = export_family(graph_model, buckets, [0.0] * len(model.policy.gated), ORIN.dialect)
    dense = {"dense": export_dense(graph_model, ORIN.dialect), "stem-head": export_dense(graph_model, ORIN.dialect, 0)}
    for name, proto in {**graphs.named(), **dense}.items():
        assert lint_graph(name, to_fp16(proto), ORIN.lint) == []


def test_attention_has_four_dimensions_and_rows_in_eights(
    family: tuple[str, Segmenter, GraphFamily], model: Segmenter
) -> None:
    _, _, graphs = family
    for name, proto in graphs.named().items():
        kinds = kinds_of(proto)
        sizes = [kinds[node.input[0]][1] for node in proto.graph.node if node.op_type == "Softmax"]
        attention = [each for each in sizes if len(each) > 2]
        assert attention or name == "trunk"
        for batch, heads, queries, keys in attention:
            assert (batch, heads) == (1, 3) and queries == keys
            assert keys % ROWS == 0 or name == "target" or keys == models.N + model.spec.extra_tokens

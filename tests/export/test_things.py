"""Graphs of the instance task: their outputs, those of PyTorch thing by thing, in each dialect's types, by targets' rules."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.export import torch_tensorrt
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import DenseGraph, GraphFamily, export_family, export_graph, to_bytes
from edgeprune.export.lint import lint_graph
from edgeprune.export.onnx_session import OnnxSession
from edgeprune.export.parity import ask_torch, measure_parity
from edgeprune.export.simplify import kinds_of
from edgeprune.export.torch_tensorrt import type_fp16
from edgeprune.model.heads.answers import Answers
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.heads.likeness import FAR, largest_difference
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import quantized_linears
from edgeprune.runtime.engines.fp16_rounded import round_fp16
from edgeprune.runtime.tasks import Agreement, find_task
from tests import models
from tests.export import instances

CPU, ORIN = load_target("onnx-cpu"), load_target("jetson-orin")
OUTPUTS = ("classes", "scores", "boxes", "masks")
T, H, W = instances.QUERIES, models.HEIGHT // 4, models.WIDTH // 4
BUCKETS = [Bucket("k8", (8,))]
agreement = find_task("instance").agreement


@pytest.fixture(scope="module")
def model() -> Segmenter:
    """Of seed 0 a query begins elsewhere in FP16, for two places say nearly the same; of 1 to 7 none does."""
    return instances.model(instances.card(stem="conv"), seed=1)


@pytest.fixture(scope="module")
def family(model: Segmenter) -> GraphFamily:
    """In TensorRT's dialect, which other engines take too."""
    return export_family(model, BUCKETS, [0.5], ORIN.dialect)


@pytest.fixture(scope="module")
def halved(family: GraphFamily) -> GraphFamily:
    return family.changed(to_fp16)


def answered(family: GraphFamily, frame_HW3: np.ndarray) -> Mapping[str, np.ndarray]:
    state = OnnxSession(family.trunk, 1).run({"frame": frame_HW3})
    return OnnxSession(family.tails["k8"], 1).run(state)


def ordered(outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [outputs[name] for name in OUTPUTS]


# ------------------------------------------------------------------------------------------------ graphs


def test_things_leave_a_graph_in_constant_shapes_and_the_gates_scores_have_another_name(family: GraphFamily) -> None:
    tail = family.tails["k8"]
    shapes = {name: kinds_of(tail)[name] for name in OUTPUTS}
    assert shapes == {
        "classes": (TensorProto.UINT8, (T,)),
        "scores": (TensorProto.FLOAT, (T,)),
        "boxes": (TensorProto.FLOAT, (T, 4)),
        "masks": (TensorProto.UINT8, (T, H, W)),
    }
    assert [value.name for value in tail.graph.output] == list(OUTPUTS)
    assert [value.name for value in family.trunk.graph.output] == ["tokens", "skip0", "skip1", "token_scores", "count"]
    assert "token_scores" in [value.name for value in tail.graph.input]
    onnx.checker.check_model(tail)


def test_the_engine_finds_what_pytorch_finds(model: Segmenter, family: GraphFamily) -> None:
    [row] = measure_parity(model, BUCKETS, "fp32", family, models.frames(4), threads=1)
    assert row.max_abs < 1e-2 and row.label_agreement == 1 and row.excluded == 0
    assert row.selection_agreement == 1  # the choice of things is no selection of tokens
    found = [answer for frame_HW3 in models.frames(4) for answer in ask_torch(model, BUCKETS, frame_HW3)]
    assert sum(agreement(each.outputs, each.outputs).of for each in found) >= 4  # things that could differ


def test_another_model_finds_other_things(family: GraphFamily) -> None:
    """Guards the test above."""
    other = instances.model(instances.card(stem="conv"), seed=2)
    [row] = measure_parity(other, BUCKETS, "fp32", family, models.frames(4), threads=1)
    assert row.max_abs > 0.1 and row.label_agreement < 0.5


def test_best_scores_come_first(family: GraphFamily) -> None:
    found = answered(family, models.frames(1)[0])
    assert (np.diff(found["scores"]) <= 0).all() and np.ptp(found["masks"]) > 200
    assert (found["classes"] < len(models.STREET.names)).all()


def test_lint_finds_nothing(family: GraphFamily, halved: GraphFamily) -> None:
    for name, proto in family.named().items():
        assert lint_graph(name, proto, CPU.lint) == []
        assert lint_graph(name, proto, ORIN.lint) == []
        assert lint_graph(name, halved.named()[name], ORIN.lint) == []


def test_queries_attend_with_heads_of_64(family: GraphFamily) -> None:
    kinds, nodes = kinds_of(family.tails["k8"]), family.tails["k8"].graph.node
    sizes = [kinds[node.input[0]][1] for node in nodes if node.op_type == "Softmax"]
    assert [each for each in sizes if each[1:2] == (2,)] == [(1, 2, T, models.N), (1, 2, T, T)] * 3
    made_by = {name: node for node in nodes for name in node.output}
    products = [made_by[node.input[0]] for node in nodes if node.op_type == "Softmax"]
    assert {kinds[each.input[0]][1][-1] for each in products if each.op_type == "MatMul"} == {64}


def test_fp16_leaves_scores_boxes_and_what_is_summed_over_pixels_in_fp32(model: Segmenter, halved: GraphFamily) -> None:
    tail = halved.tails["k8"]
    onnx.shape_inference.infer_shapes(tail, check_type=True, strict_mode=True)
    kinds = kinds_of(tail)
    assert kinds["scores"][0] == kinds["boxes"][0] == kinds["token_scores"][0] == TensorProto.FLOAT
    assert kinds["tokens"][0] == kinds["skip0"][0] == TensorProto.FLOAT16
    for node in tail.graph.node:
        if node.op_type in ("TopK", "ReduceSum", "Round", "LayerNormalization"):
            assert kinds[node.input[0]][0] == TensorProto.FLOAT, node.op_type
        if node.op_type in ("Conv", "MatMul", "Gemm") and "policy" not in "".join(node.input):
            assert kinds[node.output[0]][0] == TensorProto.FLOAT16
    [row] = measure_parity(model, BUCKETS, "fp16", halved.changed(round_fp16), models.frames(4), threads=1)
    assert row.selection_agreement == 1 and row.max_abs < 0.2


def test_int8_is_in_the_blocks_alone() -> None:
    quantized = instances.model(instances.card(quantized=True))
    names = [name for name, _ in quantized_linears(quantized)]
    assert len(names) == 8 and all(name.startswith("blocks.") for name in names)


def test_torch_tensorrts_programs_answer_in_the_same_types(model: Segmenter) -> None:
    graph = DenseGraph(type_fp16(model), 2, torch_tensorrt.DIALECT)
    with torch.no_grad():
        found = graph(torch.from_numpy(models.frames(1)[0]))
    assert [each.dtype for each in found] == [torch.int32, torch.float32, torch.float32, torch.int32]


# ------------------------------------------------------------------------------------------------ decisions


class Decide(nn.Module):
    """What the head computed -> a graph's outputs."""

    def __init__(self, head: QueryHead, dialect: str):
        super().__init__()
        self.head, self.dialect = head, dialect

    def forward(self, logits_BQK1: Tensor, boxes_BQ4: Tensor, masks_BQhw: Tensor) -> tuple[Tensor, ...]:
        decided = self.head.decide(Answers([logits_BQK1], [boxes_BQ4], [masks_BQhw], logits_BQK1, logits_BQK1))
        return tuple(each if each.is_floating_point() else to_bytes(each, self.dialect) for each in decided)


def drawn(seed: int, classes: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    """What a head might compute: sure and unsure queries, some of them twice, some of equal score with another mask."""
    random = torch.Generator().manual_seed(seed)
    logits_BQK1 = 4 * torch.randn(1, T, classes + 1, generator=random)
    boxes_BQ4 = torch.rand(1, T, 4, generator=random)
    masks_BQhw = 6 * torch.randn(1, T, H, W, generator=random)
    ones, others = torch.randperm(T, generator=random)[: 2 * (seed % 4)].view(2, seed % 4)
    for each in (logits_BQK1, boxes_BQ4, masks_BQhw):
        each[:, others] = each[:, ones]
    if seed % 2:  # the same pixels elsewhere: score, class and box are equal
        masks_BQhw[:, others] = masks_BQhw[:, ones].flip(-1)
    if seed % 5 == 4:
        masks_BQhw[:, 0] = -9.0  # nowhere
    return logits_BQK1, boxes_BQ4, masks_BQhw


@pytest.fixture(scope="module", params=["onnxruntime", "tensorrt"])
def decide(request: pytest.FixtureRequest, model: Segmenter) -> tuple[Decide, OnnxSession]:
    assert isinstance(model.head, QueryHead)
    module = Decide(model.head, request.param)
    proto = export_graph(module, drawn(0), ["logits", "boxes_in", "masks_in"], OUTPUTS)
    return module, OnnxSession(proto, 1)


def test_a_graph_decides_as_the_head_does_whatever_ties(decide: tuple[Decide, OnnxSession]) -> None:
    module, session = decide
    for seed in range(40):
        raw = drawn(seed)
        expected = dict(zip(OUTPUTS, (each.numpy() for each in module(*raw)), strict=True))
        found = session.run(dict(zip(("logits", "boxes_in", "masks_in"), (each.numpy() for each in raw), strict=True)))
        assert largest_difference(ordered(expected), ordered(found)) < 1e-4, seed
        shared = agreement(expected, found)
        assert shared.share == 1 and shared.of == (expected["scores"] > 0.5).sum(), seed


# ------------------------------------------------------------------------------------------------ likeness


def some(seed: int = 0) -> list[np.ndarray]:
    """Classes, scores, boxes and masks of things; the best first, with a tie."""
    random = np.random.default_rng(seed)
    scores = np.array([0.9, 0.8, 0.8, 0.6, 0.1, 0.05], np.float32)
    boxes, masks = random.random((6, 4), np.float32), random.integers(0, 256, (6, H, W)).astype(np.uint8)
    return [np.array([1, 2, 2, 0, 1, 1], np.uint8), scores, boxes, masks]


def changed(index: int, at: int | tuple[int, int], value: Any) -> list[np.ndarray]:
    """With what output number `index` says of one thing changed."""
    things = [each.copy() for each in some()]
    things[index][at] = value
    return things


def test_things_are_compared_in_any_order() -> None:
    assert largest_difference(some(), [each[[0, 2, 1, 3, 4, 5]] for each in some()]) == 0


def test_each_part_of_a_thing_shows() -> None:
    assert largest_difference(some(), changed(1, 3, 0.57)) == pytest.approx(0.03, abs=1e-6)
    boxes = some()[2]
    assert largest_difference(some(), changed(2, (0, 1), boxes[0, 1] + 0.2)) == pytest.approx(0.2, abs=1e-6)
    assert 0.2 < largest_difference(some(), changed(3, 0, 0)) < 0.8
    assert largest_difference(some(), changed(0, 3, 7)) == FAR == largest_difference(changed(0, 3, 7), some())


def test_what_the_other_had_no_room_for_is_not_compared() -> None:
    assert largest_difference(some(), changed(0, 4, 9)) == 0


def test_references_keep_the_things_that_are_compared_and_where_they_are(model: Segmenter) -> None:
    outputs = {name: np.stack([each, each]) for name, each in zip(OUTPUTS, some(), strict=True)}
    outputs["scores"][1, 2:] = 0.01
    kept = model.head.reference(outputs)
    assert [kept[name].shape for name in OUTPUTS] == [(2, 4), (2, 4), (2, 4, 4), (2, 4, H, W)]
    assert set(np.unique(kept["masks"])) == {0, 255} and kept["masks"].dtype == np.uint8
    for index in range(2):
        whole, part = ({name: each[index] for name, each in of.items()} for of in (outputs, kept))
        assert agreement(part, whole) == agreement(whole, whole) == Agreement(*[(whole["scores"] > 0.5).sum()] * 2)
    nothing = model.head.reference(outputs | {"scores": np.zeros((2, 6), np.float32)})
    assert nothing["masks"].shape == (2, 1, H, W)


def test_an_input_that_masks_do_not_divide_is_refused() -> None:
    described = models.card("dense", depth=1).model
    size = {"task": "instance", "patch": 14, "stem": "patch", "height": 70, "width": 84}
    spec = type(described).model_validate(described.model_dump() | size)
    with pytest.raises(InputError, match="model input 70x84: .* multiples of 4, and of the patch: of 28"):
        QueryHead(192, spec, ())

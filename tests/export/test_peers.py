"""Peers: the dense model in INT8 by other means, run and compared with what it was made of."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.bundle import Bundle
from edgeprune.checkpoint import save
from edgeprune.config import Calibration
from edgeprune.engines import ENGINES
from edgeprune.errors import InputError
from edgeprune.export.graphs import export_bucket, export_dense
from edgeprune.export.parity import WatchedGraph
from edgeprune.export.peers import PEERS, export_joined, export_peers, export_undone, join
from edgeprune.export.sources import Sources, twins
from edgeprune.export.undo import STEPS, undo
from edgeprune.model.policy import Bucket
from tests import models


def test_peers_are_int8_and_say_nearly_what_the_dense_model_says(tmp_path: Path) -> None:
    card = models.card("dense", depth=2, stem="conv")
    model = models.model(card)
    save(tmp_path / "reference.safetensors", card, model.state_dict())
    frames = Calibration(data=models.write_street(tmp_path, frames=8), frames=8)
    paths = export_peers(tmp_path / "reference.safetensors", frames, "onnxruntime", tmp_path / "peers", lambda _: None)
    assert [path.stem for path in paths] == list(PEERS)
    dense = tmp_path / "dense.onnx"
    onnx.save(export_dense(model, "onnxruntime"), dense)
    engine = ENGINES["onnxruntime"]
    images_FHW3 = models.frames(4)
    expected = np.stack([engine.open_graph(dense)(image_HW3) for image_HW3 in images_FHW3])
    for path in paths:
        proto = onnx.load(path)
        assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) >= 8
        assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in proto.graph.initializer)
        graph = engine.open_graph(path)
        found = np.stack([graph(image_HW3) for image_HW3 in images_FHW3])
        assert 0.8 < (found == expected).mean() <= 1


def test_a_sparse_checkpoint_is_refused(sources: Sources, tmp_path: Path) -> None:
    frames = Calibration(data="street", frames=8)
    with pytest.raises(InputError, match="svit in INT8; a peer is made of a dense FP32 checkpoint"):
        export_peers(sources.checkpoint, frames, "onnxruntime", tmp_path / "peers", lambda _: None)


def test_a_joined_graph_says_what_trunk_and_tail_say(cpu: Bundle, tmp_path: Path) -> None:
    paths = export_joined(cpu, "int8", tmp_path / "peers", lambda _: None)
    names = [bucket.name for bucket in cpu.manifest.buckets]
    assert [path.name for path in paths] == [f"joined-{name}-int8.onnx" for name in names]
    engine = ENGINES["onnxruntime"]
    opened = engine.open(cpu, "int8", threads=1)
    for path, name in zip(paths, names, strict=True):
        joined = engine.open_graph(path, 1)
        for image_HW3 in models.frames(2):
            opened.start(image_HW3)
            np.testing.assert_array_equal(joined(image_HW3), opened.finish(name))


def test_what_cannot_be_joined_is_refused(cpu: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown precision 'int4'.*int8"):
        export_joined(cpu, "int4", tmp_path / "peers", lambda _: None)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_undone_leaves_what_the_graph_says(cpu: Bundle, step: str) -> None:
    joined = join(cpu, "int8", cpu.manifest.buckets[0].name)
    undone = undo(joined, step)
    onnx.checker.check_model(undone, full_check=True)
    used = {name for node in undone.graph.node for name in node.input} | {value.name for value in undone.graph.output}
    assert all(set(node.output) & used for node in undone.graph.node)  # nothing is computed for nobody
    before, after = WatchedGraph(joined, 1), WatchedGraph(undone, 1)
    for image_HW3 in models.frames(3):
        expected = before.answer(before.run({"frame": image_HW3}))
        found = after.answer(after.run({"frame": image_HW3}))
        if step == "small-labels":  # the same map, finer
            np.testing.assert_array_equal(found.labels_HW.shape, 2 * np.array(expected.labels_HW.shape))
            assert (found.labels_HW[::2, ::2] == expected.labels_HW).mean() > 0.9
            continue
        assert found.kept == expected.kept
        np.testing.assert_allclose(found.logits_KHW, expected.logits_KHW, atol=0.02 * np.ptp(expected.logits_KHW))


@pytest.mark.parametrize(
    ("step", "operator", "change"),
    [
        ("integer-bias", "MatMul", 12),  # a Gemm each
        ("one-qkv", "Gemm", 6),  # three for one, in three blocks
        ("gather", "Concat", -2),  # one for each decision
        ("small-labels", "Resize", 1),
        ("fused-gelu", "Div", -5),  # of three blocks and two gates
    ],
)
def test_what_a_step_undone_puts_in_place(cpu: Bundle, step: str, operator: str, change: int) -> None:
    def count(model: onnx.ModelProto) -> int:
        return sum(node.op_type == operator for node in model.graph.node)

    joined = join(cpu, "int8", cpu.manifest.buckets[0].name)
    assert count(undo(joined, step)) - count(joined) == change


def test_without_zero_points_no_weight_has_one(cpu: Bundle) -> None:
    def weights(model: onnx.ModelProto) -> list[int]:
        constants = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
        return [
            len(node.input)
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants
        ]

    joined = join(cpu, "int8", cpu.manifest.buckets[0].name)
    assert weights(joined) == [3] * 12 and weights(undo(joined, "zero-points")) == [2] * 12


@pytest.mark.parametrize("policy", ["dynamicvit", "tome", "step"])
def test_graphs_of_other_methods_have_some_of_the_steps(policy: str) -> None:
    """What only looks like a step is left alone."""
    model = models.model(models.card(policy, quantized=True))
    _, folded = twins(model, "int8", "onnxruntime")
    bucket = Bucket("target", tuple(model.policy.target_counts(models.N)))
    joined = export_bucket(folded, bucket, "onnxruntime")
    graph, image_HW3 = WatchedGraph(joined, 1), models.frames(1)[0]
    labels_HW = graph.run({"frame": image_HW3})["labels"]
    for step in STEPS:
        undone = undo(joined, step)
        found_HW = WatchedGraph(undone, 1).run({"frame": image_HW3})["labels"]
        assert (found_HW[::2, ::2] if step == "small-labels" else found_HW).shape == labels_HW.shape
        if step == "gather":
            assert undone == joined


def test_the_files_of_a_bucket_without_a_step(cpu: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    paths = export_undone(cpu, "full", tmp_path / "peers", said.append)
    assert said == ["gather: full has nothing of it"]
    assert [path.name for path in paths] == [f"full-without-{step}.onnx" for step in STEPS if step != "gather"]


def test_a_bundle_whose_steps_cannot_be_undone(cpu: Bundle, orin: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown bucket 'k1'.*full"):
        export_undone(cpu, "k1", tmp_path, lambda _: None)
    with pytest.raises(InputError, match="in the dialect 'tensorrt'; steps are undone in 'onnxruntime'"):
        export_undone(orin, "full", tmp_path, lambda _: None)

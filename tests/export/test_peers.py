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
from edgeprune.export.graphs import export_dense
from edgeprune.export.peers import PEERS, export_joined, export_peers, export_undone, join
from edgeprune.export.sources import Sources
from edgeprune.export.undo import STEPS, undo
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


def test_a_step_undone_changes_the_graph_and_not_what_it_says(cpu: Bundle, tmp_path: Path) -> None:
    bucket = cpu.manifest.buckets[0].name
    paths = export_undone(cpu, bucket, tmp_path / "peers", lambda _: None)
    assert [path.name for path in paths] == [f"{bucket}-without-{step}.onnx" for step in STEPS]
    joined = join(cpu, "int8", bucket)
    onnx.save(joined, tmp_path / "joined.onnx")
    engine = ENGINES["onnxruntime"]
    expected = engine.open_graph(tmp_path / "joined.onnx", 1)
    image_HW3 = models.frames(1)[0]
    expected_HW = expected(image_HW3)
    for path in paths:
        onnx.checker.check_model(onnx.load(path), full_check=True)
        found_HW = engine.open_graph(path, 1)(image_HW3)
        if path.stem.endswith("small-labels"):  # the same map, finer
            assert found_HW.shape == tuple(2 * side for side in expected_HW.shape)
            found_HW = found_HW[::2, ::2]
        assert (found_HW == expected_HW).mean() > 0.95, path.stem


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
def test_what_a_step_undone_puts_in_place(cpu: Bundle, tmp_path: Path, step: str, operator: str, change: int) -> None:
    def count(model: onnx.ModelProto) -> int:
        return sum(node.op_type == operator for node in model.graph.node)

    bucket = cpu.manifest.buckets[0].name
    joined = join(cpu, "int8", bucket)
    assert count(undo(joined, step)) - count(joined) == change


def test_a_bucket_that_has_nothing_of_a_step(cpu: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    paths = export_undone(cpu, "full", tmp_path / "peers", said.append)
    assert said == ["gather: full has nothing of it"]
    assert len(paths) == len(STEPS) - 1

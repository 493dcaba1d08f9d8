"""A peer's graphs: they answer as PyTorch does, and are scored by the code that scores a bundle's."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.selection import CalibrationFrames
from edgeprune.lab.peers.graphs import PeerGraphs
from edgeprune.lab.peers.peer import Peer
from edgeprune.lab.peers.scoring import score_peer
from edgeprune.runtime.engines import ENGINES
from tests import models
from tests.lab.peers import small


def a_peer() -> Peer:
    """With logits far enough apart that rounding decides few labels."""
    torch.manual_seed(0)
    peer = small.Small(small.SPEC)
    peer.train()(models.images(4))  # statistics of its norms
    with torch.no_grad():
        peer.classify.weight *= 4
    return peer.eval()


def test_graphs_answer_as_pytorch_does_and_are_scored(tmp_path: Path) -> None:
    peer, data = a_peer(), models.write_street(tmp_path)
    card = models.card("dense").model_copy(update={"network": "small", "model": small.SPEC})
    graphs, engines = PeerGraphs(tmp_path / "graphs", card), ["onnxruntime", "openvino"]
    paths = graphs.write(peer, CalibrationFrames(data=data, frames=8), engines)
    assert [path.name for path in paths] == [
        "small-fp32.onnx",
        "small-int8-onnxruntime.onnx",
        "small-int8-openvino.onnx",
    ]
    frames_FHW3 = models.frames(4)
    with torch.no_grad():
        expected = peer(models.images(4)).raw.argmax(dim=1).to(torch.uint8).numpy()

    def agreement(engine: str, path: Path) -> float:
        graph = ENGINES[engine].open_graph(path, 1)
        return float(
            np.mean([graph(frame)["labels"] == label for frame, label in zip(frames_FHW3, expected, strict=True)])
        )

    assert agreement("onnxruntime", graphs.fp32) > 0.999
    assert 0.8 < agreement("onnxruntime", graphs.int8("onnxruntime")) < 1
    assert 0.8 < agreement("openvino", graphs.int8("openvino-bf16")) < 1
    for path in paths[1:]:
        constants = onnx.load(path).graph.initializer
        assert sum(each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4 for each in constants) == 3
    samples = open_split(load_data_set(data), "val")
    target = load_target("onnx-cpu").runtime()
    rows = score_peer(graphs, engines, target, (load_data_set(data), samples), ("fp32", "int8"), frames=2)
    assert [(row.engine, row.precision) for row in rows] == [(e, p) for e in engines for p in ("fp32", "int8")]
    assert all(row.peer == "small" and 0 <= row.miou <= 1 and Path(row.graph).is_file() for row in rows)
    with pytest.raises(InputError, match="unknown engine for a peer 'tensorrt'; choices: onnxruntime, openvino"):
        graphs.int8("tensorrt")

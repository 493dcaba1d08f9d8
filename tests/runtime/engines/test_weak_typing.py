"""Weakly typed networks, the way that is left where a TensorRT before 10.12 can't build a strongly typed one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines.weak_typing import typings
from tests import bundles
from tests.runtime.engines.jetson import ENGINE, Jetson, device_with, graphs, prepared

REASON = "Error Code 4: no strongly typed implementation of node {ForeignNode[z]}."
SIDE, LABEL_SIDE = 16, 16


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jetson]:
    """JetPack 6.1 or 6.2, whose TensorRT can't build these networks strongly typed."""
    for device in device_with("10.3.0", monkeypatch, tmp_path):
        device.trt.not_strongly = REASON
        yield device


def test_where_it_is_tried() -> None:
    assert typings((10, 3), None) == ("strong", "weak") and typings((10, 11), None) == ("strong", "weak")
    assert typings((10, 12), None) == ("strong",) and typings((11, 4), None) == ("strong",)
    assert typings((10, 16), "weak") == ("weak",) and typings((10, 3), "strong") == ("strong",)
    with pytest.raises(
        InputError, match="EDGEPRUNE_TYPING is weak: TensorRT 11 builds strongly typed networks alone; unset"
    ):
        typings((11, 0), "weak")


def test_what_can_not_be_built_strongly_typed_is_built_weakly_and_says_so(
    orin: Jetson, bundle: Bundle, said: list[str]
) -> None:
    assert ENGINE.prepare(graphs(bundle)) == {}
    trunk = graphs(bundle)[0]
    assert said[1] == (
        f"fp32-trunk: TensorRT 10.3.0 can't build {trunk}: {REASON}; built weakly typed, each layer held to the graph's types"
    )
    assert not any(network.strongly_typed for network, _ in orin.trt.built)
    assert {json.loads(path.read_text())["typing"] for path in orin.cache.glob("*.json")} == {"weak"}
    session = ENGINE.open(bundle, "fp32")
    bundles.check_answers(session)
    assert session.describe()["typing"] == "weak"


def test_a_strongly_typed_one_is_what_is_taken_where_it_can_be_built(jetson: Jetson, bundle: Bundle) -> None:
    assert prepared(bundle).describe()["typing"] == "strong"
    assert all(network.strongly_typed for network, _ in jetson.trt.built)


def test_a_newer_one_has_no_such_way(thor: Jetson, bundle: Bundle) -> None:
    thor.trt.not_strongly = REASON
    failed = ENGINE.prepare(graphs(bundle))
    assert len(failed) == 4 and all(str(error).endswith(REASON) for error in failed.values())


def test_where_neither_can_be_built_both_reasons_are_given(orin: Jetson, bundle: Bundle) -> None:
    orin.trt.refuses = "no implementation at all"
    [error] = ENGINE.prepare(graphs(bundle)[:1]).values()
    assert str(error).count("no implementation at all") == 2 and "; weakly typed: TensorRT" in str(error)


def test_a_setting_asks_for_it(thor: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was built strongly typed before is built again."""
    prepared(bundle).close()
    monkeypatch.setenv("EDGEPRUNE_TYPING", "weak")
    with pytest.raises(InputError, match="compiled strongly typed, and EDGEPRUNE_TYPING is weak; compile it"):
        ENGINE.open(bundle, "fp32")
    session = prepared(bundle)
    assert session.describe()["typing"] == "weak" and len(thor.trt.built) == 8
    bundles.check_answers(session)
    monkeypatch.setenv("EDGEPRUNE_TYPING", "week")
    with pytest.raises(InputError, match="EDGEPRUNE_TYPING is 'week'; expected strong or weak"):
        ENGINE.open(bundle, "fp32")


# ------------------------------------------------------------------------------------------------ types


def save_mixed(path: Path) -> Path:
    """frame -> labels with an FP16 part and an FP32 one behind it, in which FP16 would get the labels wrong: 1 where
    8 x + 0.3 > 2040.2, which holds for x = 255 alone, and in FP16, whose step is 2 there, never."""
    cast = {"half": TensorProto.FLOAT16, "float": TensorProto.FLOAT}
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], to=cast["float"]),
        helper.make_node("ReduceMean", ["x"], ["grey"], axes=[2], keepdims=0),
        helper.make_node("Cast", ["grey"], ["grey16"], to=cast["half"]),
        helper.make_node("Mul", ["grey16", "one16"], ["same16"]),
        helper.make_node("Cast", ["same16"], ["same"], to=cast["float"]),
        helper.make_node("Mul", ["same", "eight"], ["times"]),
        helper.make_node("Add", ["times", "little"], ["sum"]),
        helper.make_node("Greater", ["sum", "threshold"], ["over"]),
        helper.make_node("Cast", ["over"], ["number"], to=cast["float"]),
        helper.make_node("Cast", ["number"], ["labels"], to=TensorProto.UINT8),
    ]
    for node in nodes:
        node.name = f"node_{node.output[0]}"
    constants = {
        "eight": np.float32(8),
        "little": np.float32(0.3),
        "threshold": np.float32(2040.2),
        "one16": np.float16(1),
    }
    save(path, nodes, constants)
    return path


def save(path: Path, nodes: list[Any], constants: dict[str, Any]) -> None:
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [SIDE, SIDE, 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, [SIDE, SIDE])
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, [frame], [labels], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def frame_and_labels() -> tuple[np.ndarray, np.ndarray]:
    grey_HW = np.full((SIDE, SIDE), 254, np.uint8)
    grey_HW[::3] = 255
    return grey_HW[..., None].repeat(3, 2), (grey_HW == 255).astype(np.uint8)


def test_what_the_graph_keeps_in_fp32_stays_in_fp32(orin: Jetson, tmp_path: Path) -> None:
    graph = save_mixed(tmp_path / "mixed.onnx")
    assert ENGINE.prepare([graph]) == {}
    [(network, config)] = orin.trt.built
    assert config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
    held = {layer.name: getattr(layer.held_to, "name", None) for layer in network.layers}
    assert held == {
        "node_x": None,  # casts say their types themselves
        "node_grey": "FLOAT",
        "node_grey16": None,
        "node_same16": "HALF",
        "node_same": None,
        "node_times": "FLOAT",
        "node_sum": "FLOAT",
        "node_over": "FLOAT",  # it compares in FP32, whatever comes out
        "node_number": None,
        "node_labels": None,
    }
    frame_HW3, label_HW = frame_and_labels()
    dense = ENGINE.open_graph(graph)
    assert np.array_equal(dense(frame_HW3)["labels"], label_HW)


def test_the_fake_takes_fp16_where_it_is_free_to(orin: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its types held the same graph gives other labels: a forgotten constraint would be seen."""
    from edgeprune.runtime.engines import plan_builder

    def flags_alone(trt: Any, network: Any, config: Any, types: Any) -> None:
        config.set_flag(trt.BuilderFlag.FP16)

    monkeypatch.setattr(plan_builder, "hold_types", flags_alone)
    graph = save_mixed(tmp_path / "mixed.onnx")
    ENGINE.prepare([graph])
    frame_HW3, label_HW = frame_and_labels()
    assert label_HW.any() and not ENGINE.open_graph(graph)(frame_HW3)["labels"].any()


def test_quantized_linears_are_left_to_their_qdq_layers(orin: Jetson, tmp_path: Path) -> None:
    constants = {
        "scale": np.float32(1.0),
        "zero": np.int8(0),
        "weight": np.eye(3, dtype=np.int8),
        "scales": np.ones(3, np.float32),
        "zeros": np.zeros(3, np.int8),
        "half": np.float32(0.5),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["wd"], axis=1),
        helper.make_node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["xd", "wt"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["mean", "half"], ["halved"]),
        helper.make_node("Cast", ["halved"], ["labels"], to=TensorProto.UINT8),
    ]
    for node in nodes:
        node.name = node.output[0]
    graph = tmp_path / "int8.onnx"
    save(graph, nodes, constants)
    assert ENGINE.prepare([graph]) == {}
    [(network, config)] = orin.trt.built
    assert config.flags == {"INT8", "OBEY_PRECISION_CONSTRAINTS"}
    held = {layer.name for layer in network.layers if layer.held_to is not None}
    assert held == {"mean", "halved"}
    frame_HW3 = np.full((SIDE, SIDE, 3), 100, np.uint8)
    assert (ENGINE.open_graph(graph)(frame_HW3)["labels"] == 50).all()

"""Graphs of other making: what can't be bound once, or can't be run, is one line."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.engines import ENGINES


def write(path: Path, height: Any, nodes: list[Any], kind: int = TensorProto.UINT8, **constants: np.ndarray) -> Path:
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [height, 8, 3])
    labels = helper.make_tensor_value_info("labels", kind, [height, 8, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [frame], [labels], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


SAME = [helper.make_node("Identity", ["frame"], ["labels"])]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_sizes_that_are_not_constant(engine: str, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'edgeprune[openvino]'")
    ENGINES[engine].open_graph(write(tmp_path / "a.onnx", 8, SAME), 1).close()
    with pytest.raises(InputError, match=r"frame .*is .*8,.?3\]; constant sizes .*export it with"):
        ENGINES[engine].open_graph(write(tmp_path / "b.onnx", "h", SAME), 1)


def test_a_type_without_a_number(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.onnx",
        8,
        [helper.make_node("Cast", ["frame"], ["labels"], to=TensorProto.STRING)],
        TensorProto.STRING,
    )
    with pytest.raises(InputError, match=r"labels is tensor\(string\)"):
        ENGINES["onnxruntime"].open_graph(path, 1)


def test_a_graph_that_opens_and_cannot_run(tmp_path: Path) -> None:
    """An index that is known only when it runs: ONNX Runtime raises its own errors then."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Add", ["wide", "far"], ["index"]),
        helper.make_node("GatherElements", ["frame", "index"], ["labels"], axis=0),
    ]
    path = write(tmp_path / "a.onnx", 8, nodes, far=np.array(1000))
    with pytest.raises(RunError, match=r"onnxruntime can't run .*a.onnx \(.*GatherElements"):
        ENGINES["onnxruntime"].open_graph(path, 1)


def test_a_file_that_is_none_says_nothing_on_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime tries once more with other providers and prints that it does; `--json` must stay pure."""
    path = write(tmp_path / "a.onnx", 8, SAME)
    path.write_bytes(path.read_bytes().replace(b"Identity", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"))
    with pytest.raises(InputError, match="can't read"):
        ENGINES["onnxruntime"].open_graph(path, 1)
    assert capfd.readouterr().out == ""

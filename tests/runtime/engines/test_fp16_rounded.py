"""FP16 on a CPU: rounded after every operator, as numpy's own half floats are, and never silently in FP32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES, fp16_rounded
from edgeprune.runtime.engines.fp16_rounded import check_rounding, round_fp16
from edgeprune.runtime.engines.onnxruntime import open_session
from tests import bundles

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def chain(element: int) -> onnx.ModelProto:
    """(x + a) * a, transposed, minus a, over x: (3, 4)."""
    nodes = [
        helper.make_node("Add", ["x", "a"], ["sum"]),
        helper.make_node("Mul", ["sum", "a"], ["product"]),
        helper.make_node("Transpose", ["product"], ["turned"], perm=[1, 0]),
        helper.make_node("Sub", ["turned", "a"], ["difference"]),
        helper.make_node("Transpose", ["x"], ["other"], perm=[1, 0]),
        helper.make_node("Div", ["difference", "other"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(name, element, shape) for name, shape in (("x", [3, 4]), ("a", [1]))]
    graph = helper.make_graph(nodes, "chain", inputs, [helper.make_tensor_value_info("y", element, [4, 3])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_rounded_graph_answers_as_half_floats_do() -> None:
    x, a = np.random.default_rng(0).uniform(0.1, 3, (3, 4)).astype(np.float16), np.array([37.7], np.float16)
    expected = (((x + a) * a).T - a) / x.T
    assert expected.dtype == np.float16
    wide, narrow = (
        open_session(model.SerializeToString(), 1).run(None, {"x": x, "a": a})[0]
        for model in (chain(HALF), round_fp16(chain(HALF)))
    )
    assert np.array_equal(narrow, expected)
    assert not np.array_equal(wide, expected)  # the reason why this engine exists; where it goes, the engine may too


def test_a_graph_without_fp16_stays_as_it_is() -> None:
    model = chain(SINGLE)
    assert round_fp16(model) is model


def test_the_graph_given_is_not_changed() -> None:
    model = chain(HALF)
    before = model.SerializeToString()
    assert round_fp16(model) is not model
    assert model.SerializeToString() == before


def test_a_run_time_that_does_not_round_is_refused(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setattr(fp16_rounded, "round_fp16", lambda model: model)
    check_rounding.cache_clear()
    try:
        with pytest.raises(InputError, match="does not round FP16 on this CPU .* gives 0.3"):
            ENGINES["onnxruntime-fp16"].open(bundle, "fp32")
        assert "does not round" in (ENGINES["onnxruntime-fp16"].missing() or "")
    finally:
        check_rounding.cache_clear()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_fp16_it_is_onnx_runtime(bundle: Bundle, precision: str) -> None:
    session = ENGINES["onnxruntime-fp16"].open(bundle, precision)
    bundles.check_answers(session)
    assert session.describe()["engine"] == "onnxruntime-fp16"


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    damaged = bundles.write_bundle(tmp_path / "tiny")
    damaged.path("graphs/dense.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="dense.onnx"):
        ENGINES["onnxruntime-fp16"].open_graph(damaged.path("graphs/dense.onnx"))

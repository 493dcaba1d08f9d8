"""The graph that is put together without `onnx`, held against `onnx`, ONNX Runtime and numpy."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeprune.runtime.first_hour.attention import BLOCKS, D, H, attention_graph


def expected(x_ND: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The blocks, in FP32."""
    for _ in range(BLOCKS):
        q_HNd, k_HNd, v_HNd = (
            (x_ND @ weights[name]).reshape(-1, H, D // H).transpose(1, 0, 2) for name in ("w_q", "w_k", "w_v")
        )
        products_HNN = (q_HNd * (D // H) ** -0.5) @ k_HNd.transpose(0, 2, 1)
        shares_HNN = np.exp(products_HNN - products_HNN.max(-1, keepdims=True))
        mixed_HNd = shares_HNN / shares_HNN.sum(-1, keepdims=True) @ v_HNd
        x_ND = x_ND + mixed_HNd.transpose(1, 0, 2).reshape(-1, D) @ weights["w_o"]
    return x_ND


@pytest.mark.parametrize("tokens", [5, 130])
def test_it_is_a_graph_of_attention(tokens: int) -> None:
    content = attention_graph(tokens)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10 and model.opset_import[0].version == 17
    assert content == model.SerializeToString()  # as the library itself writes it
    weights = {each.name: onnx.numpy_helper.to_array(each).astype(np.float32) for each in model.graph.initializer}
    x_ND = np.random.default_rng(1).normal(0, 1, (tokens, D)).astype(np.float16)
    (y_ND,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["y"], {"x": x_ND})
    assert np.abs(y_ND - expected(x_ND.astype(np.float32), weights)).max() < 0.02


def test_one_token_makes_no_other_difference() -> None:
    one, other = (onnx.load_from_string(attention_graph(tokens)) for tokens in (512, 513))
    kinds = [[node.op_type for node in model.graph.node] for model in (one, other)]
    assert kinds[0] == kinds[1] and kinds[0].count("Softmax") == BLOCKS
    assert [model.graph.input[0].type.tensor_type.shape.dim[0].dim_value for model in (one, other)] == [512, 513]

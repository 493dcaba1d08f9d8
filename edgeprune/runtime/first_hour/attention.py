"""A graph of attention blocks alone, of as many tokens as wanted: to see what one token over a tile costs.

A device has no `onnx` to write a file with, so the few messages are put together here. Field numbers and wire types: onnx.proto
and Protocol Buffers, "Encoding"; both are kept for ever. A test holds the file against `onnx` and ONNX Runtime.

Shapes: N tokens, D embedding, H heads.
"""

from collections.abc import Sequence

import numpy as np

D, H = 192, 3  # ViT-Tiny
BLOCKS = 12
FLOAT16, INT64 = 10, 7  # TensorProto.DataType


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """An integer, or something with a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _tensor(name: str, array: np.ndarray, kind: int) -> bytes:
    dims = b"".join(_field(1, side) for side in array.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_field(1, _field(1, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT16) + _field(2, sides)))


def _node(kind: str, inputs: Sequence[str], output: str, **integers: Sequence[int]) -> bytes:
    """With attributes that are lists of integers."""
    attributes = b"".join(
        _field(5, _field(1, name) + b"".join(_field(8, each) for each in values) + _field(20, 7))
        for name, values in integers.items()
    )
    named = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output) + _field(4, kind)
    return named + attributes


def attention_graph(tokens: int) -> bytes:
    """The ONNX file: x_ND (FP16) -> BLOCKS times x + attention(x), as the model's own graphs write it: [1, H, N, D / H], the
    scale on Q before the product."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(0, 0.02, (D, D)).astype(np.float16) for name in ("w_q", "w_k", "w_v", "w_o")}
    constants = [_tensor(name, array, FLOAT16) for name, array in weights.items()]
    constants += [
        _tensor("scale", np.array((D // H) ** -0.5, np.float16), FLOAT16),
        _tensor("split", np.array([1, tokens, H, D // H]), INT64),
        _tensor("joined", np.array([tokens, D]), INT64),
    ]
    nodes, x = [], "x"
    for block in range(BLOCKS):
        heads = {}
        for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes += [
                _node("MatMul", [x, f"w_{name}"], f"{name}_flat{block}"),
                _node("Reshape", [f"{name}_flat{block}", "split"], f"{name}_split{block}"),
                _node("Transpose", [f"{name}_split{block}"], f"{name}{block}", perm=order),
            ]
            heads[name] = f"{name}{block}"
        nodes += [
            _node("Mul", [heads["q"], "scale"], f"scaled{block}"),
            _node("MatMul", [f"scaled{block}", heads["k"]], f"products{block}"),
            _node("Softmax", [f"products{block}"], f"shares{block}"),
            _node("MatMul", [f"shares{block}", heads["v"]], f"mixed{block}"),
            _node("Transpose", [f"mixed{block}"], f"back{block}", perm=[0, 2, 1, 3]),
            _node("Reshape", [f"back{block}", "joined"], f"flat{block}"),
            _node("MatMul", [f"flat{block}", "w_o"], f"out{block}"),
            _node("Add", [x, f"out{block}"], x := "y" if block == BLOCKS - 1 else f"x{block}"),
        ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, f"attention-{tokens}")
    graph += b"".join(_field(5, constant) for constant in constants)
    graph += _field(11, _value("x", [tokens, D])) + _field(12, _value("y", [tokens, D]))
    return _field(1, 9) + _field(2, "edgeprune") + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17))

"""Which files an ONNX graph reads beside itself, and whether it computes in INT8, told from its bytes: a device has no `onnx`
package.

An ONNX file is a protobuf message; a tensor's constants may lie in another file, which the tensor names
(`TensorProto.external_data`, key `location`). The messages on the way to a tensor, with their field numbers, are those of
onnx.proto3 (ONNX 1.17, IR 10; a test holds them to the installed one).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import open_regular
from edgeprune.base.paths import real_path

INSIDE: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
ENTRY, KEY, VALUE = "StringStringEntryProto", 1, 2
NODE, OPERATOR = "NodeProto", 4
TEXTS = {ENTRY: (KEY, VALUE), NODE: (OPERATOR,)}  # fields that are read
# the operators of ONNX that make or take INT8; one of them is in every quantized graph (onnx/defs/quantization, defs/math)
INT8_OPERATORS = {
    b"QuantizeLinear",
    b"DequantizeLinear",
    b"DynamicQuantizeLinear",
    b"QLinearMatMul",
    b"QLinearConv",
    b"MatMulInteger",
    b"ConvInteger",
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are not in ONNX
MOST_BYTES = (1 << 31) - 1  # of a protobuf message
MOST_FIELDS = 1_000_000  # a graph of ours has some ten thousand; as many take two seconds
MOST_DEPTH = 100  # protobuf's own limit


class _Damaged(ValueError):
    """No protobuf message."""


def external_files(graph: Path) -> set[str]:
    """The files that a graph's constants lie in, as the graph names them: relative to its folder.

    Raises:
        InputError: it is no regular file, too large, or no ONNX graph.
    """
    entries = [texts for message, texts in _read(graph) if message == ENTRY]
    try:
        return {texts.get(VALUE, b"").decode("utf-8") for texts in entries if texts.get(KEY) == b"location"}
    except UnicodeDecodeError:
        raise InputError(_damaged(graph, "a file name that is no UTF-8")) from None


def computes_int8(graph: Path) -> bool:
    """Whether a graph has operators of INT8.

    Raises:
        InputError: as `external_files`.
    """
    return any(message == NODE and texts.get(OPERATOR) in INT8_OPERATORS for message, texts in _read(graph))


def _read(graph: Path) -> list[tuple[str, dict[int, bytes]]]:
    """The texts of a graph that are looked at, message by message."""
    with open_regular(graph, "graph", MOST_BYTES) as (file, size):
        if not size:
            raise InputError(f"graph {graph} is empty; export or copy it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return list(_texts(content))
            except _Damaged as error:
                raise InputError(_damaged(graph, str(error))) from None


def _damaged(graph: Path, why: str) -> str:
    return f"graph {graph} is no whole ONNX graph ({why}); export or copy it again"


def check_external(graph: Path) -> None:
    """Refuses a graph whose constants lie outside its folder, or are not there.

    Raises:
        InputError: as `external_files`, or because of one of them.
    """
    folder = real_path(graph).parent
    for name in sorted(external_files(graph)):
        file = folder / name
        if not is_inside(name) or not real_path(file).is_relative_to(folder):
            raise InputError(f"graph {graph} keeps constants in {name!r}, outside its folder; export it again")
        with open_regular(file, f"the constants of {graph},"):
            pass


def is_inside(name: str) -> bool:
    """Whether a name is a plain relative path: no root, no `..`, nothing that another system reads as one."""
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and str(path) == name and path.name != ""
    return plain and not path.is_absolute() and ".." not in path.parts


def _texts(content: mmap.mmap) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Of each message that has some its kind and its texts by the numbers of their fields."""
    left = [("ModelProto", 0, len(content), 0)]
    fields = 0
    while left:
        message, begin, end, depth = left.pop()
        if depth > MOST_DEPTH:
            raise _Damaged(f"deeper than {MOST_DEPTH} messages")
        wanted, texts = TEXTS.get(message, ()), dict[int, bytes]()
        for number, wire, start, stop in _fields(content, begin, end):
            fields += 1
            if fields > MOST_FIELDS:
                raise _Damaged(f"more than {MOST_FIELDS:,} fields")
            if number in wanted and wire == BYTES:
                texts[number] = content[start:stop]
            elif wire == BYTES and (inner := INSIDE.get(message, {}).get(number)):
                left.append((inner, start, stop, depth + 1))
        if texts:
            yield message, texts


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, begin and end of the value of each field of a message."""
    while at < end:
        tag, at = _varint(content, at, end)
        number, wire = tag >> 3, tag & 7
        begin = at
        if wire == VARINT:
            _, at = _varint(content, at, end)
        elif wire == BYTES:
            length, begin = _varint(content, at, end)
            at = begin + length
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        else:
            raise _Damaged(f"wire type {wire} at byte {at}")
        if at > end or not number:
            raise _Damaged(f"a field that ends after byte {end}" if number else f"field 0 at byte {begin}")
        yield number, wire, begin, at


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Damaged(f"cut off at byte {end}")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _Damaged(f"a number of more than ten bytes at byte {at}")

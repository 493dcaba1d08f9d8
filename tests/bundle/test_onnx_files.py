"""Which files a graph reads beside itself, told from its bytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.base.errors import InputError
from edgeprune.bundle.onnx_files import (
    ENTRY,
    INSIDE,
    OPERATOR,
    check_external,
    computes_int8,
    external_files,
    is_inside,
)
from tests import bundles


def outside(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_the_messages_are_those_of_onnx() -> None:
    """Every way from a model to a tensor, as the installed package has it."""
    expected: dict[str, dict[int, str]] = {}
    left = [onnx.ModelProto.DESCRIPTOR]
    while left:
        message = left.pop()
        if message.name in expected or message.name == ENTRY:
            continue
        fields = {field.number: field.message_type for field in message.fields if field.message_type is not None}
        expected[message.name] = {number: inner.name for number, inner in fields.items()}
        left += fields.values()
    leads = {"TensorProto"}
    while more := {name for name, fields in expected.items() if name not in leads and leads & set(fields.values())}:
        leads |= more
    ways = {
        name: {number: inner for number, inner in expected[name].items() if inner in leads}
        for name in leads - {"TensorProto"}
    }
    # a type's sizes and a function's types hold no tensor; what else is skipped here would be a file read unhashed
    assert {name: INSIDE[name] for name in ways} == ways
    assert INSIDE["TensorProto"] == {13: ENTRY} and expected["TensorProto"][13] == ENTRY
    assert onnx.NodeProto.DESCRIPTOR.fields_by_number[OPERATOR].name == "op_type"


def test_constants_are_found_wherever_they_stand(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], [outside("a", "in-subgraph")])
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Constant", [], ["c"], value=outside("b", "in-attribute")),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [outside("d", "in-initializer"), outside("e", "é/deep")])
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("f", "in-sparse"))
    model = helper.make_model(graph)
    model.functions.add().node.add().attribute.add().t.CopyFrom(outside("g", "in-function"))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    names = {"in-subgraph", "in-attribute", "in-initializer", "é/deep", "in-sparse", "in-function"}
    assert external_files(path) == names


def test_a_graph_of_int8_is_told_by_its_operators(tmp_path: Path) -> None:
    found = []
    for operators in (["Conv", "Relu"], ["Conv", "DequantizeLinear", "Relu"], ["MatMulInteger"]):
        nodes = [helper.make_node(operator, ["x"], ["y"]) for operator in operators]
        onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [])), tmp_path / "g.onnx")
        found.append(computes_int8(tmp_path / "g.onnx"))
    assert found == [False, True, True]


def test_a_graph_with_its_constants_inside_reads_nothing_else(tmp_path: Path) -> None:
    bundles.write_tail(tmp_path / "a.onnx", 1)
    assert external_files(tmp_path / "a.onnx") == set()
    check_external(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 20,
        b"\x3a\x7f",
        b"\x0b",
        b"\x00\x00",
        b"<net name='x'></net>",
        b"\x3a\x84\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    ],
)
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match="is empty|is no whole ONNX graph"):
        external_files(tmp_path / "a.onnx")


def test_a_graph_of_endless_fields_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.bundle.onnx_files.MOST_FIELDS", 1000)
    (tmp_path / "a.onnx").write_bytes(b"\x08\x01" * 2000)
    with pytest.raises(InputError, match="more than 1,000 fields"):
        external_files(tmp_path / "a.onnx")


def test_constants_outside_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "secret")
    for location, words in (
        ("../secret", "outside its folder"),
        (str(tmp_path / "secret"), "outside its folder"),
        ("link", "outside its folder"),
        ("none", "is not there"),
        ("*/_ORT_MEM_ADDR_/*", "is not there"),
    ):
        model = helper.make_model(helper.make_graph([], "g", [], [], [outside("a", location)]))
        (folder / "a.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match=words):
            check_external(folder / "a.onnx")


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/../b", "a//b", "./a", "a/", "a\\b", "a\nb", "a\0b"])
def test_names_that_are_not_inside(name: str) -> None:
    assert not is_inside(name)


def test_names_that_are_inside() -> None:
    assert all(is_inside(name) for name in ("a", "a/b.onnx", "é b/c", "..a", "a..b"))

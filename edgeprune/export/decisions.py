"""What a graph decides, told by its nodes: the answers' ids, and which tokens it selects."""

from collections.abc import Iterator, Mapping

import onnx

# what a graph does to what an ArgMax or a TopK gives, on its way to an output
PASSING = ("Cast", "Gather", "Reshape", "Squeeze")
PRODUCTS = ("Conv", "Gemm", "MatMul")
HEAD = "model.head."  # how the names of the head's parameters begin


def decided_from(proto: onnx.ModelProto, output: str) -> str:
    """The input of the ArgMax whose ids an output holds; of any other output itself."""
    node = _behind(output, _makers(proto.graph))
    return str(node.input[0]) if node is not None and node.op_type == "ArgMax" else output


def answering(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The TopK that choose among answers: one whose values leave the graph. A selection of tokens goes by places alone."""
    makers = _makers(graph)
    found = (_behind(value.name, makers) for value in graph.output)
    chosen = {node.output[0] for node in found if node is not None and node.op_type == "TopK"}
    return [node for node in _topk(graph) if node.output[0] in chosen]


def selecting(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The TopK that select tokens, or cells of them: none that chooses among answers or among the head's places."""
    others, makers = {node.output[0] for node in answering(graph)}, _makers(graph)
    return [node for node in _topk(graph) if node.output[0] not in others and not _scored_by_head(node, makers)]


def _scored_by_head(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether what a TopK compares is a product with the head's parameters."""
    names, seen = [node.input[0]], set[str]()
    while names:
        name = names.pop()
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.add(name)
        if maker.op_type not in PRODUCTS:
            names.extend(maker.input)
        elif any(each.startswith(HEAD) for each in maker.input):
            return True
    return False


def _topk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for node in graph.node if node.op_type == "TopK")


def _makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def _behind(output: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node whose values an output passes on; None: they come from no node."""
    node = makers.get(output)
    while node is not None and node.op_type in PASSING:
        node = makers.get(node.input[0])
    return node

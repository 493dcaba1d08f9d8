"""Graph lint: rules that a target names, over every graph of a bundle."""

import os
from pathlib import Path

import onnx

from edgeprune.base.errors import InputError, choose
from edgeprune.base.inputs import look_at
from edgeprune.export.lint.rules import RULES

__all__ = ["RULES", "lint_graph", "load_graph"]


def load_graph(path: Path) -> onnx.ModelProto:
    """An ONNX file and its weights.

    Raises:
        InputError: it isn't there, or isn't ONNX.
    """
    if not os.path.lexists(path):
        raise InputError(f"graph {path} is not there; name an .onnx file, such as one of a bundle's graphs/")
    look_at(path, "graph")
    try:
        model: onnx.ModelProto = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's own, which share no base but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no whole ONNX graph ({reason}); export it again") from error
    return model


def lint_graph(name: str, model: onnx.ModelProto, rules: list[str]) -> list[str]:
    """One line per violation, `<graph>: <rule>: <what>`.

    Raises:
        InputError: an unknown rule.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for item in node.attribute:
            if node.op_type == "Constant" and item.name == "value":
                constants[node.output[0]] = item.t
    return [
        f"{name}: {rule}: {line}" for rule in rules for line in choose(RULES, rule, "lint rule").check(model, constants)
    ]

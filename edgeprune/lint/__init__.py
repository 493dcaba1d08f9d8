"""Graph lint: rules that a target names, over every graph of a bundle."""

import onnx

from edgeprune.errors import choose
from edgeprune.lint.rules import RULES

__all__ = ["RULES", "lint_graph"]


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
    return [f"{name}: {rule}: {line}" for rule in rules for line in choose(RULES, rule, "lint rule")(model, constants)]

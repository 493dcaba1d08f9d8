"""The class of each pixel, as OpenVINO computes it fastest in f32.

It reads ONNX's ArgMax as a TopK of one, which goes through the classes of a pixel one by one; reductions over whole planes are
faster. (In bf16 its TopK is the faster one.)
"""

from typing import Any

import numpy as np


def reduce_argmax(model: Any) -> int:
    """Puts reductions in the place of each TopK of one along an inner axis whose indices alone are read: the largest value, and
    the least of the numbers that have it, which is what a stable TopK gives; the last number where all are minus infinity,
    which is less than OpenVINO's largest of them. It changes the model.

    Args:
        model: an `openvino.Model`; what has no constant shape stays.

    Returns:
        how many were replaced.
    """
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == "TopK" and _is_argmax(node)]
    for node in found:
        _replace(node)
    return len(found)


def _is_argmax(node: Any) -> bool:
    about, count = node.get_attributes(), node.input_value(1).get_node()
    shape = node.input_value(0).get_partial_shape()
    return bool(
        shape.is_static
        and about["mode"] == "max"
        and about["axis"] % len(shape) != len(shape) - 1
        and count.get_type_name() == "Constant"
        and count.get_data().item() == 1
        and node.input_value(0).get_element_type().is_real()
        and not node.output(0).get_target_inputs()
    )


def _replace(node: Any) -> None:
    from openvino import opset13 as ops

    values, about = node.input_value(0), node.get_attributes()
    shape = list(values.get_shape())
    axis = about["axis"] % len(shape)
    numbers = np.arange(shape[axis], dtype=np.float32).reshape([-1] + [1] * (len(shape) - 1 - axis))
    kind = values.get_element_type()
    largest = ops.reduce_max(values, [axis], keep_dims=True)
    lost = ops.less(values, largest)
    number = ops.select(lost, ops.constant(np.float32(shape[axis] - 1), kind), ops.constant(numbers, kind))
    first = ops.convert(ops.reduce_min(number, [axis], keep_dims=True), node.output(1).get_element_type())
    for reader in node.output(1).get_target_inputs():
        reader.replace_source_output(first.output(0))

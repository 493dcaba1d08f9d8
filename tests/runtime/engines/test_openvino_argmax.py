"""The class of each pixel by reductions: the same classes, the first of several that are equal; other TopKs stay."""

from typing import Any

import numpy as np
import pytest

from edgeprune.runtime.engines.openvino_argmax import reduce_argmax

openvino = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")

SHAPE = [2, 5, 6, 8]


def model(axis: int, count: int, outputs: slice) -> Any:
    """TopK of `count` along an axis; `outputs`: of its two, values and indices, those that are results."""
    from openvino import opset13 as ops

    given = ops.parameter(SHAPE, openvino.Type.f32, name="given")
    found = ops.topk(given, ops.constant(count), axis, "max", "value", stable=True)
    results = [ops.result(output) for output in found.outputs()[outputs]]
    return openvino.Model(results, [given], "topk")


def ops_of(made: Any) -> list[str]:
    return [node.get_type_name() for node in made.get_ordered_ops()]


def run(made: Any, given: Any) -> Any:
    compiled = openvino.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([given])[0]


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_it_gives_the_first_of_the_largest(axis: int) -> None:
    generator = np.random.default_rng(0)
    given = generator.integers(-3, 3, SHAPE).astype(np.float32)  # many are equal
    given[0, :, 0, 0] = [-np.inf, -np.inf, 2, 2, -np.inf]
    made = model(axis, 1, slice(1, 2))
    assert reduce_argmax(made) == 1
    assert "TopK" not in ops_of(made)
    found = run(made, given)
    assert np.array_equal(found, np.expand_dims(given.argmax(axis), axis))
    assert np.array_equal(found, run(model(axis, 1, slice(1, 2)), given))


def test_no_class_is_beyond_the_last_whatever_the_values() -> None:
    given = np.zeros(SHAPE, np.float32)
    given[0, :, 0, 0], given[0, :, 0, 1] = -np.inf, np.nan
    made = model(1, 1, slice(1, 2))
    reduce_argmax(made)
    found = run(made, given)
    assert found.min() >= 0 and found.max() < SHAPE[1]


@pytest.mark.parametrize(
    ("axis", "count", "outputs"),
    [(1, 2, slice(1, 2)), (3, 1, slice(1, 2)), (1, 1, slice(0, 2)), (1, 1, slice(0, 1))],
    ids=["two", "the last axis", "values too", "values alone"],
)
def test_other_topks_stay(axis: int, count: int, outputs: slice) -> None:
    made = model(axis, count, outputs)
    assert reduce_argmax(made) == 0
    assert "TopK" in ops_of(made)


def test_shapes_that_are_not_constant_stay() -> None:
    """They are refused where the graph is bound, in words of ours."""
    made = model(1, 1, slice(1, 2))
    made.reshape([-1, 5, 6, 8])
    assert reduce_argmax(made) == 0
    assert "TopK" in ops_of(made)

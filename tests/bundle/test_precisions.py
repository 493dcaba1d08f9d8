"""The precisions: one place says what each of them quantizes."""

from typing import get_args

from torch import nn

from edgeprune.bundle import PRECISIONS
from edgeprune.bundle.precisions import PrecisionName
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.bundle.target import load_target
from edgeprune.evaluate.plot import COLOURS
from edgeprune.model.blocks import Block


def test_what_may_be_named_is_what_there_is() -> None:
    assert get_args(PrecisionName) == tuple(PRECISIONS) and set(COLOURS) == set(PRECISIONS)


def test_what_is_quantized_are_linears_of_a_block() -> None:
    linears = {name for name, module in Block(64).named_modules() if isinstance(module, nn.Linear)}
    assert set(PRECISIONS["int8"].quantized) == linears > set(PRECISIONS["int8-mlp"].quantized)


def test_parity_of_every_precision() -> None:
    parity = Parity(int8=0.9, fp16=0.95)
    assert [parity.least(each) for each in PRECISIONS] == [0.9, 0.9, 0.95, 0.999]


def test_boards_measure_what_no_cpu_gains_by() -> None:
    for name in ("jetson-orin", "jetson-agx-orin", "jetson-orin-nx", "jetson-orin-nano", "jetson-thor"):
        assert "int8-mlp" in load_target(name).precisions
    for name in ("host", "onnx-cpu", "openvino-cpu"):
        assert "int8-mlp" not in load_target(name).precisions

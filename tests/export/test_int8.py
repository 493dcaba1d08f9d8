"""INT8 of some linears alone: the graphs of precision `int8-mlp`."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgeprune.bundle.runtime_spec import Parity
from edgeprune.bundle.target import load_target
from edgeprune.export.build import BuildLog, BuiltPrecision, build_precision
from edgeprune.export.inputs import find_inputs
from edgeprune.export.spec import describe_build
from edgeprune.model.checkpoint import save
from edgeprune.quantize.linear import QUANTIZED
from tests import models

FRAMES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8-mlp")


@pytest.fixture(scope="module")
def built(folder: Path) -> BuiltPrecision:
    """One block on every token, for a Jetson."""
    card = models.card("dense", depth=1, quantized=True)
    save(folder / "qat.safetensors", card, models.model(card).state_dict())
    target = load_target("jetson-orin").model_copy(update={"threads": 1, "parity": Parity(int8=0.9)})
    spec = describe_build(target, find_inputs(folder / "qat.safetensors", None, None), ["int8-mlp"])
    (folder / "graphs").mkdir()
    spec = replace(spec, frames_FHW3=spec.frames_FHW3[:FRAMES])
    return build_precision(spec, "int8-mlp", folder, BuildLog(folder / "build.log"))


def test_fc1_and_fc2_alone_are_between_q_and_dq(folder: Path, built: BuiltPrecision) -> None:
    model = onnx.load(folder / built.graphs.trunk)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    products: dict[str, list[str]] = {}  # of each linear, what makes its inputs
    for node in model.graph.node:
        if node.op_type not in ("Gemm", "MatMul"):
            continue
        sources = [made_by[name] for name in node.input if name in made_by]
        weight = sources[-1].input[0] if node.input[1] in made_by else node.input[1]
        products |= {part: [each.op_type for each in sources] for part in QUANTIZED if part in weight}
    quantized = ["DequantizeLinear"] * 2
    assert {part for part, inputs in products.items() if inputs == quantized} == {"mlp.fc1", "mlp.fc2"}
    assert set(products) == set(QUANTIZED)
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 2
    int8, half = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16
    types = {part: each.data_type for part in QUANTIZED for each in constants.values() if f"{part}.weight" in each.name}
    assert types == {"attn.qkv": half, "attn.proj": half, "mlp.fc1": int8, "mlp.fc2": int8}


def test_it_has_its_own_parity_lint_and_row_in_the_log(folder: Path, built: BuiltPrecision) -> None:
    assert built.findings == []
    [row] = built.parity
    assert (row.precision, row.frames) == ("int8-mlp", FRAMES) and row.label_agreement > 0.98
    assert (folder / "build.log").read_text().startswith("int8-mlp: largest activation")
    assert (folder / "fp16-range-int8-mlp.csv").is_file()

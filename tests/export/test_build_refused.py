"""`build`: what it refuses, and that a build that fails leaves what was there before."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import MANIFEST, Bundle, ParityRow, open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.export import build as module
from edgeprune.export.build import build, check_parity
from edgeprune.export.inputs import BuildInputs, find_inputs
from edgeprune.model.checkpoint import save
from tests import models
from tests.export.conftest import again, small


def disturb(trunk: onnx.ModelProto, tails: dict[str, onnx.ModelProto]) -> None:
    """A tail whose largest weight is not the model's any more."""
    tensor = max(tails["full"].graph.initializer, key=lambda tensor: len(tensor.raw_data))
    random = np.random.default_rng(0)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array((values + random.normal(0, 0.2, values.shape)).astype(values.dtype), tensor.name)
    )


def row_of(line: str) -> ParityRow:
    """The parity that a refusal speaks of."""
    found = re.search(r"bucket (\w+) in (\w+): ([\d.]+)%", line)
    assert found
    share = float(found[3]) / 100
    return ParityRow.model_validate(
        {"bucket": found[1], "precision": found[2], "label_agreement": share, "max_abs": 0.0, "frames": 16}
        | {"excluded": 0.0, "selection_agreement": None}
    )


def test_parity_that_fails_leaves_nothing(inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path) -> None:
    exported(disturb)
    with pytest.raises(
        RunError, match=r"parity of bucket full in fp32: \d.*% equal labels, at least 99.90% expected"
    ) as found:
        again(inputs, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
    ways = r"train longer, take --precision fp32, or a target of your own that extends onnx-cpu with `(parity: {.*})`$"
    written = re.search(ways, str(found.value))
    assert written
    # what it says to write is taken, and passes
    (tmp_path / "mine.yaml").write_text(f"name: mine\nextends: onnx-cpu\n{written[1]}\n")
    lower = load_target(str(tmp_path / "mine.yaml")).parity
    check_parity(small("onnx-cpu", 3).model_copy(update={"parity": lower}), [row_of(str(found.value))])


def test_where_nothing_is_sure_nothing_agrees() -> None:
    """A share of nothing is 1, and no proof."""
    row = row_of("bucket full in fp32: 100%")
    check_parity(small("onnx-cpu", 3), [row])
    with pytest.raises(RunError, match=r"parity of bucket full in fp32: 0.00% equal labels"):
        check_parity(small("onnx-cpu", 3), [row.model_copy(update={"excluded": 1.0})])


def test_parity_that_fails_keeps_the_bundle_of_before(
    inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported()
    again(inputs, tmp_path / "bundle")
    before = (tmp_path / "bundle" / MANIFEST).read_bytes()
    exported(disturb)
    with pytest.raises(RunError):
        again(inputs, tmp_path / "bundle")
    assert (tmp_path / "bundle" / MANIFEST).read_bytes() == before
    open_bundle(tmp_path / "bundle")


def test_lint_findings_fail_the_build(inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path) -> None:
    def age(trunk: onnx.ModelProto, tails: dict[str, onnx.ModelProto]) -> None:
        trunk.ir_version = tails["full"].ir_version = 11

    exported(age)
    with pytest.raises(RunError, match=r"graph lint for onnx-cpu: fp32 trunk: opset: IR version 11.*\(and 1 more\)"):
        again(inputs, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_dense_reference_is_linted_too(
    cpu: Bundle, inputs: BuildInputs, exported: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is compiled on a device as the buckets are."""
    exported()
    dense = onnx.load(cpu.path(cpu.manifest.dense))
    dense.ir_version = 11
    monkeypatch.setattr(module, "export_dense", lambda *_, **__: dense)
    with pytest.raises(RunError, match=r"graph lint for onnx-cpu: dense-fp32: opset: IR version 11"):
        again(inputs, tmp_path / "bundle")


def test_a_folder_that_is_no_bundle_is_not_replaced(inputs: BuildInputs, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is there and is no bundle; name a new folder with --out"):
        again(inputs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("where", ["file", "file/bundle", "/proc/bundle"])
def test_an_unwritable_folder_is_refused(
    inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path, where: str
) -> None:
    exported()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="cannot write bundle to"):
        again(inputs, tmp_path / where)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_method_without_a_static_form_says_why_before_anything_else(tmp_path: Path) -> None:
    card = models.card("ats", depth=2)
    save(tmp_path / "sparse.safetensors", card, models.model(card).state_dict())
    inputs = find_inputs(tmp_path / "sparse.safetensors", None, None)  # neither calibrated nor quantized
    with pytest.raises(InputError, match="policy ats has no graph of constant shapes: .* depends on the frame"):
        build(load_target("onnx-cpu"), inputs, ["int8"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_int8_needs_a_quantized_checkpoint(tmp_path: Path) -> None:
    card = models.card(depth=2)
    save(tmp_path / "sparse.safetensors", card, models.model(card).state_dict())
    inputs = find_inputs(tmp_path / "sparse.safetensors", None, None)
    with pytest.raises(
        InputError, match=r"sparse.safetensors has no quantization scales; train a qat phase or build with"
    ):
        build(load_target("onnx-cpu"), inputs, ["int8"], tmp_path / "b")
    with pytest.raises(InputError, match=r"no calibration for tiny: .*edgeprune calibrate .*sparse.safetensors"):
        build(load_target("onnx-cpu"), inputs, ["fp32"], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_calibration_of_another_model_is_refused(inputs: BuildInputs, tmp_path: Path) -> None:
    calib = inputs.calib
    assert calib is not None
    wrong: dict[str, dict[str, Any]] = {
        "has 0 thresholds for fp32, the model 2 gates": {"thresholds": {"int8": [0.0, 0.0]}},
        "has 3 thresholds for fp32, the model 2 gates": {"thresholds": {"fp32": [0.0] * 3}},
        "occupancy in int8 is not of 2 gates": {"occupancy": {"int8": [[0.5] * 9] * 4}},
    }
    for words, update in wrong.items():
        changed = BuildInputs(inputs.checkpoint, calib.model_copy(update=update), None)
        with pytest.raises(InputError, match=f"calibration of tiny.*{words}.*calibrate again"):
            again(changed, tmp_path / "b")


def test_a_reference_of_another_kind_is_refused(inputs: BuildInputs, tmp_path: Path) -> None:
    card = models.card("dense", depth=1)
    card.model = card.model.model_copy(update={"height": 96})
    save(tmp_path / "reference.safetensors", card, models.model(card).state_dict())
    with pytest.raises(InputError, match=r"reference .*reference.safetensors has height 96, .*qat.safetensors 64"):
        again(BuildInputs(inputs.checkpoint, inputs.calib, tmp_path / "reference.safetensors"), tmp_path / "b")
    with pytest.raises(InputError, match=r"gone.safetensors is not there"):
        again(BuildInputs(inputs.checkpoint, inputs.calib, tmp_path / "gone.safetensors"), tmp_path / "b")


def test_the_tampered_bundle_is_refused(inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path) -> None:
    exported()
    folder = tmp_path / "bundle"
    again(inputs, folder)
    weights = folder / "graphs" / "fp32.weights"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="graphs/fp32.weights does not match its hash"):
        open_bundle(folder)
    manifest = json.loads((folder / MANIFEST).read_text()) | {"schema_version": 99}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="schema 99"):
        open_bundle(folder)

"""The steps of a build, each by itself."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import MANIFEST, ParityRow
from edgeprune.bundle.target import load_target
from edgeprune.export.build import BuildLog, check_lint, check_parity, check_replaceable
from edgeprune.export.graphs import GraphFamily
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.manifest import describe_bundle
from edgeprune.export.onnx_session import OnnxSession
from edgeprune.export.spec import describe_build
from edgeprune.export.weights import write_family, write_single
from edgeprune.model.policy import Bucket
from tests import bundles, models
from tests.export.conftest import small

TARGET = load_target("onnx-cpu")


def graph(name: str, weight: float) -> onnx.ModelProto:
    """y = x * w, of a constant large enough for a file of its own."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [512], np.full(512, weight, np.float32).tobytes(), raw=True)
    inputs, outputs = (helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [512]) for tensor in ("x", "y"))
    made = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], name, [inputs], [outputs], [values])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def row(agreement: float) -> ParityRow:
    return ParityRow(bucket="full", precision="int8", max_abs=0.5, label_agreement=agreement, excluded=0, frames=1)


def test_what_is_to_be_built_is_described_before_anything_is_exported(inputs: BuildInputs) -> None:
    spec = describe_build(small("jetson-orin", 3), inputs, ["int8"])
    assert spec.card.name == "tiny" and spec.buckets[-1] == Bucket("full", (models.N, models.N))
    assert spec.frames_FHW3.shape == (16, models.HEIGHT, models.WIDTH, 3) and spec.frames_from.endswith("train")
    assert inputs.calib and spec.thresholds("int8") == inputs.calib.thresholds_of("int8")
    assert spec.is_in_fp16("int8") and spec.is_in_fp16("int8-mlp")  # beside INT8
    assert not spec.is_in_fp16("fp32")
    assert not describe_build(small("onnx-cpu", 3), inputs, ["int8"]).is_in_fp16("int8")


def test_the_manifest_of_files_that_are_not_written_yet(inputs: BuildInputs) -> None:
    target = small("onnx-cpu", 3)
    spec = describe_build(target, inputs, ["fp32"])
    singles = {"dense": "graphs/dense.onnx", "stem_head": "graphs/stem-head.onnx"}
    manifest = describe_bundle(spec, {}, singles, [row(1)], "references.npz")
    assert manifest.target == target.runtime() and manifest.dense == "graphs/dense.onnx"
    assert manifest.provenance["target_sha256"] == target.sha256() and manifest.files == {}
    assert [entry.name for entry in manifest.buckets] == [bucket.name for bucket in spec.buckets]


def test_the_graphs_of_a_family_share_their_weights(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    family = GraphFamily(graph("trunk", 2), {"half": graph("half", 3), "full": graph("full", 3)})
    written = write_family(tmp_path, "fp32", family)
    assert (written.trunk, written.tails["half"]) == ("graphs/fp32-trunk.onnx", "graphs/fp32-tail-half.onnx")
    assert (tmp_path / "graphs/fp32.weights").stat().st_size == 2 * 512 * 4  # of three graphs
    single = write_single(tmp_path, "dense-fp32", family.trunk)
    for path, factor in ((written.trunk, 2), (written.tails["full"], 3), (single, 2)):
        session = OnnxSession(onnx.load(tmp_path / path), threads=1)
        found = session.run({"x": np.ones(512, np.float32), "of_another_graph": np.ones(1)})
        assert list(found) == ["y"] and np.array_equal(found["y"], np.full(512, factor, np.float32))


def test_a_family_is_changed_graph_by_graph() -> None:
    family = GraphFamily(graph("trunk", 2), {"full": graph("full", 3)})
    doubled = family.changed(lambda proto: graph(f"{proto.graph.name} again", 4))
    assert [proto.graph.name for proto in doubled.named().values()] == ["trunk again", "full again"]
    assert list(doubled.named()) == ["trunk", "full"] and family.trunk.graph.name == "trunk"


def test_findings_and_labels_that_differ_end_a_build() -> None:
    check_lint(TARGET, [])
    with pytest.raises(RunError, match=r"graph lint for onnx-cpu: one \(and 1 more\); no bundle was written"):
        check_lint(TARGET, ["one", "two"])
    check_parity(TARGET, [row(1.0), row(TARGET.parity.int8)])
    of_the_mlps = row(0.5).model_copy(update={"precision": "int8-mlp"})
    with pytest.raises(RunError, match=r"full in int8-mlp: 50.00% equal .* onnx-cpu with `parity: \{int8: 0.5\}`"):
        check_parity(TARGET, [of_the_mlps])
    for agreement in (0.98, 0.0):
        with pytest.raises(RunError, match=f"parity of bucket full in int8: {agreement:.2%} equal labels, at least 99"):
            check_parity(TARGET, [row(1.0), row(agreement)])


def test_a_note_is_said_and_kept(tmp_path: Path, said: list[str]) -> None:
    log, elsewhere = BuildLog(tmp_path / "build.log"), logging.getLogger("edgeprune.evaluate.bench")
    log.note("one")
    elsewhere.info("two")
    with log.noting():
        elsewhere.info("three")
    log.note("four")
    assert said == ["one", "two", "three", "four"]
    assert (tmp_path / "build.log").read_text() == "one\nthree\nfour\n"


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    check_replaceable(tmp_path)  # empty
    check_replaceable(tmp_path / "new")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is there and is no bundle"):
        check_replaceable(tmp_path)
    manifest = tmp_path / MANIFEST
    for text in ("", '{"name": "a web page", "icons": []}', '{"schema_version": 9, "files": ["thesis.tex"]}', "[]"):
        manifest.write_text(text)
        with pytest.raises(InputError, match="is there and is no bundle"):
            check_replaceable(tmp_path)
    manifest.write_text('{"schema_version": 99, "files": {"thesis.tex": ""}}')  # of a later edgeprune, but a bundle
    check_replaceable(tmp_path)


@pytest.mark.parametrize("name", ["qat.safetensors", "graphs/notes.txt", "deeper/manifest.json"])
def test_a_persons_own_file_in_a_bundle_is_kept(tmp_path: Path, name: str) -> None:
    bundles.write_bundle(tmp_path / "bundle")
    check_replaceable(tmp_path / "bundle")
    own = tmp_path / "bundle" / name
    own.parent.mkdir(exist_ok=True)
    own.touch()
    with pytest.raises(
        InputError, match=f"would be replaced, and {own.relative_to(tmp_path / 'bundle')} in it is none of"
    ):
        check_replaceable(tmp_path / "bundle")
    own.unlink()
    own.symlink_to(tmp_path)
    with pytest.raises(InputError, match="would be replaced"):
        check_replaceable(tmp_path / "bundle")

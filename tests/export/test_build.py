"""`build`: a whole bundle or none."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from edgeprune.bundle import MANIFEST, Bundle, open_bundle
from edgeprune.checkpoint import load, save
from edgeprune.config import BucketFamily, load_target
from edgeprune.engines import ENGINES
from edgeprune.engines.onnxruntime import OnnxRuntime
from edgeprune.errors import InputError, RunError
from edgeprune.export import build as module
from edgeprune.export import host
from edgeprune.export.build import build, build_dense
from edgeprune.export.sources import PARITY_FRAMES, Sources, find_sources, frames_for_parity
from tests import models
from tests.export.conftest import small


def quiet(line: str) -> None:
    pass


Change = Callable[[onnx.ModelProto, dict[str, onnx.ModelProto]], None]


@pytest.fixture
def exported(cpu: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change | None], None]:
    """exported(change): builds take the graphs that were exported already, changed on the way."""

    def use(change: Change | None = None) -> None:
        def family(*_: Any) -> tuple[onnx.ModelProto, dict[str, onnx.ModelProto]]:
            graphs = cpu.graphs("fp32")
            trunk = onnx.load(cpu.path(graphs.trunk))
            tails = {name: onnx.load(cpu.path(path)) for name, path in graphs.tails.items()}
            if change:
                change(trunk, tails)
            return trunk, tails

        assert cpu.manifest.dense
        dense = onnx.load(cpu.path(cpu.manifest.dense))
        monkeypatch.setattr(module, "export_family", family)
        monkeypatch.setattr(module, "export_dense", lambda *_, **__: dense)

    return use


def again(cpu: Bundle, sources: Sources, out: Path, said: list[str] | None = None) -> None:
    build(cpu.manifest.target, sources, ["fp32"], out, quiet if said is None else said.append)


# ------------------------------------------------------------------------------------------------ what a bundle holds


def test_the_bundle_verifies_and_says_what_it_is(cpu: Bundle, sources: Sources) -> None:
    manifest = open_bundle(cpu.folder).manifest
    assert (manifest.name, manifest.policy, manifest.depth, manifest.tokens) == ("tiny", "svit", 3, 24)
    assert (manifest.height, manifest.width, manifest.label_height, manifest.label_width) == (64, 96, 32, 48)
    assert manifest.precisions == ["int8", "fp32"] and manifest.names == models.STREET.names
    assert [entry.name for entry in manifest.buckets][-1] == "full" and len(manifest.buckets) in (2, 3)
    for entry in manifest.buckets:
        assert entry.first == entry.counts[0]
        assert entry.token_layers == 24 + sum(entry.counts)
    assert manifest.provenance["checkpoint"] == "qat.safetensors"
    assert manifest.provenance["parity_frames"].endswith("small-street.yaml train")
    assert manifest.lint == []
    written = sorted(str(path.relative_to(cpu.folder)) for path in cpu.folder.rglob("*") if path.is_file())
    tails = [
        f"graphs/{precision}-tail-{entry.name}.onnx" for precision in ("fp32", "int8") for entry in manifest.buckets
    ]
    trunks = [f"graphs/{precision}{end}" for precision in ("fp32", "int8") for end in ("-trunk.onnx", ".weights")]
    singles = [f"graphs/{name}.{end}" for name in ("dense-fp32", "stem-head") for end in ("onnx", "weights")]
    assert written == sorted([*tails, *trunks, *singles, MANIFEST, "build.log", "parity.csv", "references.npz"])
    assert "int8: " in (cpu.folder / "build.log").read_text()


def test_parity_has_a_row_per_bucket_and_precision(cpu: Bundle) -> None:
    rows = cpu.manifest.parity
    names = [entry.name for entry in cpu.manifest.buckets]
    assert [(row.precision, row.bucket) for row in rows] == [(p, name) for p in ("int8", "fp32") for name in names]
    for row in rows:
        assert row.frames == PARITY_FRAMES and 0 <= row.excluded < 0.05
        assert row.label_agreement >= (0.99 if row.precision == "int8" else 0.999)
        assert row.max_abs < (1.0 if row.precision == "int8" else 1e-2)
        assert (row.selection_agreement is None) == (row.bucket == "full")
    with (cpu.folder / "parity.csv").open() as file:
        assert [row["bucket"] for row in csv.DictReader(file)] == [row.bucket for row in rows]


def test_reference_frames_give_the_reference_labels(cpu: Bundle) -> None:
    references = np.load(cpu.folder / "references.npz")
    assert references["frames"].shape == (4, 64, 96, 3)
    for precision in ("int8", "fp32"):
        graphs = cpu.graphs(precision)
        trunk = ort.InferenceSession(cpu.path(graphs.trunk))
        names = [value.name for value in trunk.get_outputs()]
        for bucket, path in graphs.tails.items():
            tail = ort.InferenceSession(cpu.path(path))
            for frame_HW3, expected_HW in zip(references["frames"], references[f"{precision}/{bucket}"], strict=True):
                state = dict(zip(names, trunk.run(None, {"frame": frame_HW3}), strict=True))
                labels_HW = tail.run(None, {value.name: state[value.name] for value in tail.get_inputs()})[0]
                assert (labels_HW == expected_HW).mean() > 0.999


def test_the_dense_reference_runs_every_token_in_float(cpu: Bundle, sources: Sources) -> None:
    assert cpu.manifest.dense and cpu.manifest.stem_head
    dense = onnx.load(cpu.path(cpu.manifest.dense))
    operators = [node.op_type for node in dense.graph.node]
    assert operators.count("Softmax") == 3 and "TopK" not in operators and "QuantizeLinear" not in operators
    stem_head = onnx.load(cpu.path(cpu.manifest.stem_head))
    assert "Softmax" not in [node.op_type for node in stem_head.graph.node]


def test_orin_is_built_here_and_compiled_there(orin: Bundle) -> None:
    assert orin.manifest.target.compiled_on_device and orin.manifest.target.dialect == "tensorrt"
    assert orin.manifest.lint == [] and len(orin.manifest.target.lint) == 12
    least = orin.manifest.target.parity
    assert all(row.label_agreement >= getattr(least, row.precision) for row in orin.manifest.parity)
    assert all(row.label_agreement >= 0.99 for row in orin.manifest.parity if row.bucket == "full")


def test_a_bundle_is_replaced_by_the_next_build(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported()
    out = tmp_path / "bundle"
    for _ in range(2):
        again(cpu, sources, out)
        assert open_bundle(out).manifest.precisions == ["fp32"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_dense_model_is_one_graph_without_calibration(tmp_path: Path) -> None:
    card = models.card("dense", depth=1)
    save(tmp_path / "dense.safetensors", card, models.model(card).state_dict())
    manifest = build(
        load_target("onnx-cpu"),
        find_sources(tmp_path / "dense.safetensors", None, None),
        ["fp32"],
        tmp_path / "b",
        quiet,
    )
    assert [(entry.name, entry.counts, entry.first) for entry in manifest.buckets] == [("full", [], 24)]
    graphs = open_bundle(tmp_path / "b").graphs("fp32")
    assert graphs.tails == {} and manifest.provenance["parity_frames"] == "the synthetic street"
    labels = np.load(tmp_path / "b" / "references.npz")["fp32/full"]
    assert labels.shape == (4, 32, 48)
    # the FP32 reference can be made again later, from the same checkpoint alone
    (tmp_path / "later").mkdir()
    path = build_dense(tmp_path / "dense.safetensors", manifest, tmp_path / "later")
    assert ort.InferenceSession(path).run(None, {"frame": models.frames(1)[0]})[0].shape == (32, 48)
    with pytest.raises(InputError, match="was not built from"):
        save(tmp_path / "dense.safetensors", card, models.model(card, seed=5).state_dict())
        build_dense(tmp_path / "dense.safetensors", manifest, tmp_path / "later")


def test_without_its_reference_a_bundles_dense_graph_is_not_made_of_other_weights(
    sources: Sources, tmp_path: Path
) -> None:
    """As in an installed wheel, which leaves references out."""
    dense = models.card("dense", depth=3, stem="conv")
    save(tmp_path / "reference.safetensors", dense, models.model(dense).state_dict())
    for name in ("qat.safetensors", "calib-qat.yaml"):
        shutil.copy(sources.checkpoint.with_name(name), tmp_path / name)
    checkpoint = tmp_path / "qat.safetensors"
    said: list[str] = []
    manifest = build(small("onnx-cpu", 2), find_sources(checkpoint, None, None), ["fp32"], tmp_path / "b", said.append)
    assert manifest.provenance["reference"] == "reference.safetensors"
    assert not any("no reference.safetensors" in line for line in said)
    (tmp_path / "reference.safetensors").unlink()
    with pytest.raises(InputError, match=r"dense reference, reference.safetensors, is not beside .*qat.safetensors"):
        build_dense(checkpoint, manifest, tmp_path)


# ------------------------------------------------------------------------------------------------ engines


def test_a_target_that_leaves_the_engine_open_gets_the_fastest_that_answers_rightly(
    cpu: Bundle, sources: Sources, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine answers wrongly and would be fastest, one is not installed; of the other two the faster is taken."""
    exported()

    class Wrong(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            session = super().open(*args, **kwargs)
            finish = session.finish
            monkeypatch.setattr(session, "finish", lambda bucket: finish(bucket) + 1)
            return session

    class Missing(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            raise InputError("this engine needs a library; pip install it")

    for name, engine in {"slow": OnnxRuntime(), "quick": OnnxRuntime(), "wrong": Wrong(), "missing": Missing()}.items():
        monkeypatch.setitem(ENGINES, name, engine)
    times = {"slow": 9.0, "quick": 5.0}

    def fake_bench(*_: Any, engines: list[str], only: str, **__: Any) -> dict[str, Any]:
        assert engines == list(times)  # neither the wrong nor the missing one is worth timing
        row = {"bucket": "auto", "precision": only}
        return {"rows": [row | {"engine": name, "latency_ms": {"p50": times[name]}} for name in engines]}

    monkeypatch.setattr(host, "bench", fake_bench)
    target = cpu.manifest.target.model_copy(update={"candidates": ["slow", "wrong", "missing", "quick"]})
    build(target, sources, ["fp32"], tmp_path / "bundle", quiet)
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.target.engine == "quick"
    rows = {row["engine"]: row for row in manifest.engine_choice}
    assert [name for name, row in rows.items() if row["chosen"]] == ["quick"]
    assert rows["slow"]["reason"] == "1.80x its time" and rows["quick"]["agreement"] == 1
    assert "equal labels on the reference frames" in rows["wrong"]["reason"] and rows["wrong"]["p50_ms"] is None
    assert "pip install" in rows["missing"]["reason"]


def test_engines_of_this_machine_are_timed_for_real(
    cpu: Bundle, sources: Sources, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported()
    target = cpu.manifest.target.model_copy(update={"candidates": ["onnxruntime"]})
    build(target, sources, ["fp32"], tmp_path / "bundle", quiet)
    manifest = open_bundle(tmp_path / "bundle").manifest
    (row,) = manifest.engine_choice
    assert row["chosen"] and row["p50_ms"] > 0 and row["reason"] == "the fastest"


def test_no_engine_at_all(cpu: Bundle, sources: Sources, exported: Any, tmp_path: Path, monkeypatch: Any) -> None:
    exported()

    class Missing(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            raise InputError("this engine needs a library; pip install it")

    monkeypatch.setitem(ENGINES, "missing", Missing())
    target = cpu.manifest.target.model_copy(update={"candidates": ["missing"]})
    with pytest.raises(RunError, match="no engine can run the bundle: this engine needs a library"):
        build(target, sources, ["fp32"], tmp_path / "bundle", quiet)
    assert not (tmp_path / "bundle").exists()


# ------------------------------------------------------------------------------------------------ frames


def test_parity_frames_are_the_calibrations_or_scenes_of_the_street(sources: Sources, tmp_path: Path) -> None:
    assert sources.calib is not None
    images, where = frames_for_parity(sources.calib, 64, 96)
    assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where.endswith("train")
    assert np.array_equal(images[3], models.scene(3)[0])
    elsewhere = [
        sources.calib.model_copy(update={"data": str(tmp_path / "gone.yaml")}),
        sources.calib.model_copy(update={"split": "val"}),  # has 4 frames
        None,
    ]
    for calib in elsewhere:
        images, where = frames_for_parity(calib, 64, 96)
        assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where == "the synthetic street"
        assert len({image.tobytes() for image in images}) == PARITY_FRAMES


# ------------------------------------------------------------------------------------------------ failures


def disturb(trunk: onnx.ModelProto, tails: dict[str, onnx.ModelProto]) -> None:
    """A tail whose largest weight is not the model's any more."""
    tensor = max(tails["full"].graph.initializer, key=lambda tensor: len(tensor.raw_data))
    random = np.random.default_rng(0)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array((values + random.normal(0, 0.2, values.shape)).astype(values.dtype), tensor.name)
    )


def test_parity_that_fails_leaves_nothing(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported(disturb)
    with pytest.raises(RunError, match=r"parity of bucket full in fp32: \d.*% equal labels, at least 99.90% expected"):
        again(cpu, sources, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_parity_that_fails_keeps_the_bundle_of_before(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported()
    again(cpu, sources, tmp_path / "bundle")
    before = (tmp_path / "bundle" / MANIFEST).read_bytes()
    exported(disturb)
    with pytest.raises(RunError):
        again(cpu, sources, tmp_path / "bundle")
    assert (tmp_path / "bundle" / MANIFEST).read_bytes() == before
    open_bundle(tmp_path / "bundle")


def test_lint_findings_fail_the_build(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path
) -> None:
    def age(trunk: onnx.ModelProto, tails: dict[str, onnx.ModelProto]) -> None:
        trunk.ir_version = tails["full"].ir_version = 11

    exported(age)
    with pytest.raises(RunError, match=r"graph lint for onnx-cpu: fp32 trunk: opset: IR version 11.*\(and 1 more\)"):
        again(cpu, sources, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_not_replaced(cpu: Bundle, sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is there and is no bundle; name a new folder with --out"):
        again(cpu, sources, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("where", ["file", "file/bundle", "/proc/bundle"])
def test_an_unwritable_folder_is_refused(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path, where: str
) -> None:
    exported()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="cannot write bundle to"):
        again(cpu, sources, tmp_path / where)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_method_without_a_static_form_says_why_before_anything_else(tmp_path: Path) -> None:
    card = models.card("ats", depth=2)
    save(tmp_path / "sparse.safetensors", card, models.model(card).state_dict())
    sources = find_sources(tmp_path / "sparse.safetensors", None, None)  # neither calibrated nor quantized
    with pytest.raises(InputError, match="policy ats has no graph of constant shapes: .* depends on the frame"):
        build(load_target("onnx-cpu"), sources, ["int8"], tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


def test_int8_needs_a_quantized_checkpoint(tmp_path: Path) -> None:
    card = models.card(depth=2)
    save(tmp_path / "sparse.safetensors", card, models.model(card).state_dict())
    sources = find_sources(tmp_path / "sparse.safetensors", None, None)
    with pytest.raises(
        InputError, match=r"sparse.safetensors has no quantization scales; train a qat phase or build with"
    ):
        build(load_target("onnx-cpu"), sources, ["int8"], tmp_path / "b", quiet)
    with pytest.raises(InputError, match=r"no calibration for tiny: .*edgeprune calibrate .*sparse.safetensors"):
        build(load_target("onnx-cpu"), sources, ["fp32"], tmp_path / "b", quiet)
    assert not (tmp_path / "b").exists()


def test_a_calibration_of_another_model_is_refused(cpu: Bundle, sources: Sources, tmp_path: Path) -> None:
    calib = sources.calib
    assert calib is not None
    wrong: dict[str, dict[str, Any]] = {
        "has 0 thresholds for fp32, the model 2 gates": {"thresholds": {"int8": [0.0, 0.0]}},
        "has 3 thresholds for fp32, the model 2 gates": {"thresholds": {"fp32": [0.0] * 3}},
        "occupancy in int8 is not of 2 gates": {"occupancy": {"int8": [[0.5] * 9] * 4}},
    }
    for words, update in wrong.items():
        changed = Sources(sources.checkpoint, calib.model_copy(update=update), None)
        with pytest.raises(InputError, match=f"calibration of tiny.*{words}.*calibrate again"):
            again(cpu, changed, tmp_path / "b")


def test_a_reference_of_another_kind_is_refused(cpu: Bundle, sources: Sources, tmp_path: Path) -> None:
    card = models.card("dense", depth=1)
    card.model = card.model.model_copy(update={"height": 96})
    save(tmp_path / "reference.safetensors", card, models.model(card).state_dict())
    with pytest.raises(InputError, match=r"reference .*reference.safetensors has height 96, .*qat.safetensors 64"):
        again(cpu, Sources(sources.checkpoint, sources.calib, tmp_path / "reference.safetensors"), tmp_path / "b")
    with pytest.raises(InputError, match=r"gone.safetensors is not there"):
        again(cpu, Sources(sources.checkpoint, sources.calib, tmp_path / "gone.safetensors"), tmp_path / "b")


def test_a_reference_beside_the_checkpoint_is_found(sources: Sources, tmp_path: Path) -> None:
    for name in ("qat", "reference"):
        (tmp_path / f"{name}.safetensors").write_bytes(sources.checkpoint.read_bytes())
    assert find_sources(tmp_path / "qat.safetensors", None, None).reference == tmp_path / "reference.safetensors"


def test_sources_that_are_not_there_or_damaged_are_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint .*gone.safetensors is not there"):
        find_sources(tmp_path / "gone.safetensors", None, None)
    with pytest.raises(InputError, match="calibration .*gone.yaml is not there"):
        find_sources(sources.checkpoint, tmp_path / "gone.yaml", None)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(sources.checkpoint.read_bytes()[:10_000])
    with pytest.raises(InputError, match="cut.safetensors is not a whole safetensors file"):
        find_sources(cut, None, None)


def test_the_tampered_bundle_is_refused(
    cpu: Bundle, sources: Sources, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported()
    folder = tmp_path / "bundle"
    again(cpu, sources, folder)
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


def test_one_bucket_is_the_full_grid(sources: Sources) -> None:
    from edgeprune.export.family import place_buckets

    assert sources.calib is not None
    policy = load(sources.checkpoint)[0].policy
    assert len(place_buckets(policy, BucketFamily(count=1), sources.calib.occupancy["int8"])) == 1

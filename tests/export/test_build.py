"""`build`: what a bundle holds."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeprune.bundle import MANIFEST, Bundle, EngineRow, Manifest, open_bundle, write_manifest
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.bundle.target import BucketFamily, load_target
from edgeprune.export import build as module
from edgeprune.export.build import build
from edgeprune.export.inputs import PARITY_FRAMES, BuildInputs, find_inputs
from edgeprune.export.spec import describe_build
from edgeprune.model.checkpoint import save
from edgeprune.runtime.precision_choice import Choice
from tests import models
from tests.export.conftest import again, small


def test_the_bundle_verifies_and_says_what_it_is(cpu: Bundle, inputs: BuildInputs) -> None:
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


def test_the_dense_reference_runs_every_token_in_float(cpu: Bundle, inputs: BuildInputs) -> None:
    dense = onnx.load(cpu.path(cpu.manifest.dense))
    operators = [node.op_type for node in dense.graph.node]
    assert operators.count("Softmax") == 3 and "TopK" not in operators and "QuantizeLinear" not in operators
    stem_head = onnx.load(cpu.path(cpu.manifest.stem_head))
    assert "Softmax" not in [node.op_type for node in stem_head.graph.node]


def test_orin_is_built_here_and_compiled_there(orin: Bundle) -> None:
    assert orin.manifest.target.compiled_on_device and orin.manifest.target.engine == "tensorrt"
    assert "13 rules, 0 findings" in (orin.folder / "build.log").read_text()
    least = orin.manifest.target.parity
    assert all(row.label_agreement >= getattr(least, row.precision) for row in orin.manifest.parity)
    assert all(row.label_agreement >= 0.99 for row in orin.manifest.parity if row.bucket == "full")


def test_a_bundle_is_replaced_by_the_next_build(
    inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path
) -> None:
    exported()
    out = tmp_path / "bundle"
    for _ in range(2):
        again(inputs, out)
        assert open_bundle(out).manifest.precisions == ["fp32"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_build_says_what_it_does_and_how_long_the_rest_takes(
    cpu: Bundle, inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path, said: list[str]
) -> None:
    exported()
    said.clear()
    parity = Parity(int8=0.5)  # float graphs in the place of INT8's
    target = small("onnx-cpu", 3).model_copy(update={"parity": parity})
    build(target, inputs, ["fp32", "int8"], tmp_path / "bundle")
    count = len(cpu.manifest.buckets)
    expected = [
        rf"fp32 \(1 of 2\): exporting {count + 1} graphs",
        rf"fp32: {count} buckets against PyTorch on 16 frames, about \d+ s",
        rf"fp32: {count + 1} graphs, {count} parity rows, \d+ s",
        rf"int8 \(2 of 2\): exporting {count + 1} graphs; about \d+ s with what follows, as fp32 took",
        rf"int8: {count} buckets against PyTorch on 16 frames, about \d+ s",
        rf"int8: {count + 1} graphs, {count} parity rows, \d+ s",
        r"dense-fp32 and stem-head: exporting 2 graphs",
        r"lint: .*",
        rf"reference labels: {2 * count} buckets, on 4 frames",
    ]
    assert len(said) >= len(expected)
    for line, pattern in zip(said[-len(expected) :], expected, strict=True):
        assert re.fullmatch(pattern, line), line
    assert "exporting" not in (tmp_path / "bundle" / "build.log").read_text()  # it keeps what was found


def test_a_dense_model_is_one_graph_without_calibration(tmp_path: Path) -> None:
    card = models.card("dense", depth=1)
    save(tmp_path / "dense.safetensors", card, models.model(card).state_dict())
    manifest = build(
        load_target("onnx-cpu"),
        find_inputs(tmp_path / "dense.safetensors", None, None),
        ["fp32"],
        tmp_path / "b",
    )
    assert [(entry.name, entry.counts, entry.first) for entry in manifest.buckets] == [("full", [], 24)]
    graphs = open_bundle(tmp_path / "b").graphs("fp32")
    assert graphs.tails == {} and manifest.provenance["parity_frames"] == "the synthetic street"
    labels = np.load(tmp_path / "b" / "references.npz")["fp32/full"]
    assert labels.shape == (4, 32, 48)


def test_a_reference_beside_the_checkpoint_is_the_dense_graph(
    inputs: BuildInputs, exported: Callable[..., None], tmp_path: Path, said: list[str]
) -> None:
    exported()
    dense = models.card("dense", depth=3, stem="conv")
    save(tmp_path / "reference.safetensors", dense, models.model(dense).state_dict())
    for name in ("qat.safetensors", "calib-qat.yaml"):
        shutil.copy(inputs.checkpoint.with_name(name), tmp_path / name)
    said.clear()
    found = find_inputs(tmp_path / "qat.safetensors", None, None)
    manifest = build(small("onnx-cpu", 3), found, ["fp32"], tmp_path / "b")
    assert manifest.provenance["reference"] == "reference.safetensors"
    assert describe_build(small("onnx-cpu", 3), found, ["fp32"]).dense.policy.gated == ()
    assert not any("no reference.safetensors" in line for line in said)


def test_too_few_tokens_for_a_smaller_bucket_are_said_with_a_way_out(
    inputs: BuildInputs, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exports(Exception):
        """What follows is an export."""

    monkeypatch.setattr(module, "build_precision", Mock(side_effect=Exports))
    target = small("onnx-cpu", 3)
    coarse = target.model_copy(update={"buckets": BucketFamily(count=3, multiple=24)})
    with pytest.raises(Exports):
        build(coarse, inputs, ["fp32"], tmp_path / "b")
    line = "one bucket alone: 24 tokens are too few for smaller ones in steps of 24, and no frame is pruned; "
    [told] = [each for each in said if each.startswith(line)]
    assert "`buckets: {multiple: 8}`" in told
    assert target.buckets.multiple == 8 and len(describe_build(target, inputs, ["fp32"]).buckets) > 1


def test_the_manifest_is_written_once_and_whole(
    inputs: BuildInputs, exported: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is chosen from graphs is chosen before there is a manifest that names them."""
    exported()
    written: list[Manifest] = []

    def write(folder: Path, manifest: Manifest) -> Manifest:
        assert not (folder / MANIFEST).exists() and manifest.run and manifest.engine_choice
        written.append(write_manifest(folder, manifest))
        return written[-1]

    def time_nothing(bundle: Bundle, *_: object) -> tuple[str, list[EngineRow]]:
        assert not bundle.manifest.files
        return "onnxruntime", [EngineRow(engine="onnxruntime", agreement=1.0, p50_ms=1.0, chosen=True, reason="")]

    monkeypatch.setattr(module, "write_manifest", write)
    monkeypatch.setattr(module, "choose_engine", time_nothing)
    monkeypatch.setattr(module, "choose_precisions", lambda bundle, *_: Choice("fp32", {}, []))
    update = {"candidates": ["onnxruntime"], "precision_per_bucket": True, "parity": Parity(int8=0.9)}
    manifest = build(small("onnx-cpu", 3).model_copy(update=update), inputs, ["int8", "fp32"], tmp_path / "bundle")
    assert [manifest] == written and open_bundle(tmp_path / "bundle").manifest == manifest

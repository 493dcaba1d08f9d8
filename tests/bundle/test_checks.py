"""A manifest whose parts contradict each other, or reach out of the bundle, is refused before anything is done with it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import MANIFEST, open_bundle, read_references
from tests import bundles

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.write_bundle(tmp_path / "bundle").folder


def change(folder: Path, how: Change) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    how(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def put(key: str, value: Any) -> Change:
    """Sets `a.0.b` to a value."""

    def how(content: dict[str, Any]) -> None:
        *way, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
        node: Any = content
        for part in way:
            node = node[part]
        node[last] = value

    return how


def with_region(rows: list[str]) -> Change:
    return lambda content: content.update(schema_version=6, region=rows)


def with_marks(*marks: bool) -> Change:
    def how(content: dict[str, Any]) -> None:
        content["schema_version"] = 8
        for bucket, mark in zip(content["buckets"], marks, strict=True):
            bucket["for_budgets"] = mark

    return how


ROW = {"bucket": "half", "precision": "int8", "p50_ms": 2.0, "loss_points": None, "chosen": True}
ENGINE = {"engine": "openvino", "agreement": None, "p50_ms": None, "chosen": False, "reason": "it is not here"}

CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "no precision": (put("precisions", []), "precisions: list should have at least 1 item"),
    "unknown precision": (put("precisions.0", "ina3221"), "precision 'ina3221' is unknown; known: int8, int8-mlp, fp16, fp32"),
    "a precision of a schema that has none": (put("precisions", ["int8-mlp"]), "int8-mlp in a manifest of schema 5; copy"),
    "precision twice": (put("precisions", ["int8", "int8"]), "precision 'int8' is there twice"),
    "precision without graphs": (put("precisions", ["fp32", "int8", "fp16"]), "precision fp16 has no graphs"),
    "graphs of no precision": (put("precisions", ["fp32"]), "graphs of 'int8', which is none of its precisions"),
    "no bucket": (put("buckets", []), "buckets: list should have at least 1 item"),
    "the last bucket gone": (lambda content: content["buckets"].pop(), "the last bucket holds 12 tokens, expected the"),
    "the first bucket gone": (lambda content: content["buckets"].pop(0), "the tails of fp32 are of"),
    "a tail gone": (lambda content: content["graphs"]["fp32"]["tails"].pop("half"), "tails of fp32 are of 'quarter', 'full'"),
    "no tails": (put("graphs.fp32.tails", {}), "fp32 has no tails for 3 buckets"),
    "buckets that fall": (lambda content: content["buckets"].reverse(), "'half' holds 12 tokens and the one before it 24"),
    "a bucket twice": (put("buckets.0.name", "half"), "bucket 'half' is there twice"),
    "counts over the grid": (put("buckets.0.counts", [25] * 9), "bucket 'quarter' has more tokens than the grid, 24"),
    "counts of another number": (put("buckets.0.counts", [6]), "has 9 counts, others another number"),
    "a count of 0": (put("buckets.0.counts.0", 0), "greater than or equal to 1"),
    "token-layers over all": (put("buckets.0.token_layers", 289), "has 289 tokens over 12 blocks"),
    "a run of nothing": (put("run", "fp16"), "a run takes 'fp16', which has no graphs"),
    "labels that divide nothing": (put("label_height", 5), "labels of 5x6 are no whole part of an input of 32x48"),
    "labels larger than the input": (put("label_height", 64), "labels of 64x6 are no whole part"),
    "labels of another shape": (put("label_width", 12), "are no whole part"),
    "no height": (put("height", 0), "height: input should be greater than or equal to 1, found 0"),
    "a region of a schema that has none": (put("region", ["######"] * 4), "a region in a manifest of schema 5"),
    "a region of another grid": (with_region(["######"] * 3), "a region of 3x6 patches, 24 tokens of 32x48 pixels"),
    "a region on its side": (with_region(["####"] * 6), "a region of 6x4 patches, 24 tokens of 32x48 pixels"),
    "a region smaller than buckets": (with_region(["#....."] * 4), "bucket 'quarter' has more tokens than the region, 4"),
    "a region of nothing": (with_region(["......"] * 4), "region: no patch is inside"),
    "buckets for budgets of an older schema": (put("buckets.0.for_budgets", True), "for budgets in a manifest of schema 5"),
    "a larger bucket for budgets": (with_marks(False, True, False), "buckets for budgets that are not the smallest ones"),
    "all buckets for budgets": (with_marks(True, True, True), "buckets for budgets that are not the smallest ones"),
    "a huge height": (put("height", 10**9), "height: input should be less than or equal to"),
    "more tokens than pixels": (put("tokens", 2000), "2000 tokens of 32x48 pixels"),
    "a colour too few": (lambda content: content["palette"].pop(), "7 colours for 8 class names"),
    "a colour beyond a byte": (put("palette.0", [0, 0, 256]), "less than or equal to 255"),
    "a class twice": (put("names.1", "class0"), "class name 'class0' is there twice"),
    "256 classes": (put("names", [f"c{index}" for index in range(256)]), "at most 255 items"),
    "a name that steers a terminal": (put("name", "a\x1b[31m"), "has a control character"),
    "a name of two lines": (put("names.0", "a\nb"), "names.0: string should match pattern"),
    "parity of no bucket": (put("parity.0.bucket", "none"), "a parity row of 'none' in fp32, which it does not have"),
    "parity of no precision": (put("parity.0.precision", "fp16"), "a parity row of 'quarter' in fp16"),
    "a share over 1": (put("parity.0.label_agreement", 1.5), "less than or equal to 1"),
    "a choice that is none": (put("precision_choice", [ROW | {"precision": "int4"}]), "choice.0.precision: input should"),
    "a time that is none": (put("precision_choice", [ROW | {"p50_ms": "soon"}]), "precision_choice.0.p50_ms: input should be"),
    "a time in quotes": (put("precision_choice", [ROW | {"p50_ms": "2.5"}]), "precision_choice.0.p50_ms: input should be"),
    "a schema in quotes": (put("schema_version", "5"), "schema_version: input should be a valid integer, found '5'"),
    "a schema that is true": (put("schema_version", True), "schema_version: input should be a valid integer, found True"),
    "a size in quotes": (put("height", "32"), "height: input should be a valid integer, found '32'"),
    "a count in quotes": (put("buckets.0.counts.0", "6"), "buckets.0.counts.0: input should be a valid integer"),
    "threads in quotes": (put("target.threads", "2"), "target.threads: input should be a valid integer, found '2'"),
    "a flag in quotes": (put("target.compiled_on_device", "yes"), "compiled_on_device: input should be a valid boolean"),
    "a share in quotes": (put("parity.0.label_agreement", "1"), "parity.0.label_agreement: input should be a valid number"),
    "an engine of no name": (put("engine_choice", [ENGINE | {"engine": 3}]), "engine_choice.0.engine: input should be"),
    "reference frames as a graph": (put("graphs.int8.trunk", "references.npz"), "'references.npz' is no .onnx file"),
    "a graph as reference frames": (put("references", "graphs/dense.onnx"), "'graphs/dense.onnx' is no .npz file"),
    "a hash that is none": (lambda content: content["files"].update({"references.npz": "0"}), "references.npz is no SHA"),
    "sizes of others": (lambda content: content["sizes"].popitem(), "its sizes are of other files than its hashes"),
    "threads by the million": (put("target.threads", 10**6), "target.threads: input should be less than or equal to 256"),
    "not a number": (put("provenance.lr", float("nan")), "manifest.json is damaged .NaN is no number of JSON"),
    "no number in a figure": (put("parity.0.max_abs", float("inf")), "manifest.json is damaged .Infinity is no number"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(folder: Path, name: str) -> None:
    how, words = CONTRADICTIONS[name]
    change(folder, how)
    with pytest.raises(InputError, match=words):
        open_bundle(folder)


def rename(folder: Path, old: str, new: str) -> None:
    """The manifest speaks of `new` wherever it spoke of `old`."""
    path = folder / MANIFEST
    path.write_text(path.read_text().replace(json.dumps(old), json.dumps(new)))


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "graphs/../../outside.onnx", "graphs\\a.onnx", ""])
def test_a_path_that_leads_out_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside.onnx").write_bytes((folder / "graphs/dense.onnx").read_bytes())
    rename(folder, "graphs/dense.onnx", name)
    with pytest.raises(InputError, match="is no path inside the bundle"):
        open_bundle(folder)


def test_a_link_that_leads_out_is_refused(folder: Path) -> None:
    for inner in ("graphs/dense.onnx", "graphs"):
        path, away = folder / inner, folder.parent / "away"
        path.rename(away)
        path.symlink_to(away)
        with pytest.raises(InputError, match="is a link that leads out of the bundle"):
            open_bundle(folder)
        path.unlink()
        away.rename(path)
    (folder / "graphs/dense.onnx").rename(folder / "moved.onnx")
    (folder / "graphs/dense.onnx").symlink_to("../moved.onnx")
    open_bundle(folder)


def test_what_is_no_regular_file_is_not_opened(folder: Path) -> None:
    path = folder / "graphs/dense.onnx"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"dense.onnx is a pipe; name a file"):
        open_bundle(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"dense.onnx is a folder; name a file"):
        open_bundle(folder)


def test_sizes_are_compared_before_anything_is_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr("edgeprune.bundle.opening.sha256", hashed.append)
    os.truncate(folder / "graphs/dense.onnx", 3 << 30)  # sparse
    with pytest.raises(InputError, match=r"dense.onnx does not match its hash, it was changed or cut off"):
        open_bundle(folder)
    change(folder, lambda content: content.pop("sizes"))  # of an older build
    os.truncate(folder / "graphs/dense.onnx", 4 << 40)
    with pytest.raises(InputError, match=r"has 4,398,046,511,104 bytes, at most"):
        open_bundle(folder)
    assert hashed == []


def test_a_bundle_of_an_older_build_has_no_sizes_and_opens(folder: Path) -> None:
    change(folder, lambda content: content.pop("sizes"))
    open_bundle(folder)


def test_constants_in_a_file_without_a_hash_are_refused(folder: Path) -> None:
    """A graph whose hash is right, and what it reads beside itself is anybody's."""
    from edgeprune.bundle.manifest import write_manifest

    manifest = open_bundle(folder).manifest
    path = folder / "graphs/dense.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="dense.weights", size_threshold=0)
    write_manifest(folder, manifest)
    open_bundle(folder)
    change(folder, lambda content: [content[key].pop("graphs/dense.weights") for key in ("files", "sizes")])
    with pytest.raises(
        InputError, match=r"graphs/dense.onnx reads 'dense.weights', which has no hash in manifest.json"
    ):
        open_bundle(folder)


@pytest.mark.parametrize("suffix", [".xml", ".ort", ""])
def test_graphs_are_onnx_files(folder: Path, suffix: str) -> None:
    """OpenVINO takes an .xml with a .bin beside it that no hash covers."""
    (folder / "graphs/dense.onnx").rename(folder / f"graphs/dense{suffix}")
    rename(folder, "graphs/dense.onnx", f"graphs/dense{suffix}")
    with pytest.raises(InputError, match=r"is no .onnx file"):
        open_bundle(folder)


def test_references_that_are_none(folder: Path) -> None:
    bundle = open_bundle(folder)
    whole = dict(read_references(bundle))
    assert whole["frames"].shape == (1, bundles.H, bundles.W, 3)
    path = bundle.path("references.npz")
    for content, words in (
        (whole | {"frames": np.zeros((1, 8, 8, 3), np.uint8)}, r"frames is uint8 \(1, 8, 8, 3\), expected"),
        (whole | {"frames": whole["frames"][:0]}, "frames is uint8"),
        (whole | {"int8/half": whole["int8/half"].astype(float)}, "int8/half is float64"),
        ({key: value for key, value in whole.items() if key != "int8/half"}, "int8/half is not there"),
        (whole | {"frames": np.array([{}], object)}, "can't be read"),
    ):
        np.savez(path, **content)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=words):
            read_references(bundle)
    path.write_bytes(b"PK\3\4 no zip")
    with pytest.raises(InputError, match="can't be read"):
        read_references(bundle)


def test_references_that_unpack_to_gigabytes_are_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.bundle.references.MOST_BYTES", 5_000_000)
    bundle = open_bundle(folder)
    np.savez_compressed(bundle.path("references.npz"), frames=np.zeros(10_000_000, np.uint8))
    assert bundle.path("references.npz").stat().st_size < 20_000
    with pytest.raises(InputError, match=r"it holds 10,000,\d+ bytes"):
        read_references(bundle)

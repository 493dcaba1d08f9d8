"""The bundle's border control: whatever was changed, cut off or comes from the future is refused with the reason."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgeprune.base.errors import InputError
from edgeprune.bundle import MANIFEST, SCHEMA, open_bundle
from edgeprune.bundle.inspect import inspect
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.bundle.schema import SCHEMA_OF_BUDGETS
from edgeprune.bundle.target import load_target
from tests import bundles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.write_bundle(tmp_path / "bundle").folder


def change(folder: Path, **changes: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | changes))


def test_an_untouched_bundle_opens(folder: Path) -> None:
    bundle = open_bundle(folder)
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(bundle.manifest.files) == written - {MANIFEST}
    assert bundle.path(bundle.graphs("int8").trunk).is_file()
    assert bundle.bucket("half").first == bundles.BUCKETS["half"]
    assert bundle.default_precision() == "int8"


def test_the_default_precision_is_the_fastest_there_is(tmp_path: Path) -> None:
    assert bundles.write_bundle(tmp_path, precisions=("fp32",)).default_precision() == "fp32"


def test_unknown_names_list_the_choices(folder: Path) -> None:
    bundle = open_bundle(folder)
    with pytest.raises(InputError, match="unknown bucket 'haf'; choices: quarter, half, full; did you mean 'half'"):
        bundle.bucket("haf")
    with pytest.raises(InputError, match="unknown precision 'f16'; choices: fp32, int8"):
        bundle.graphs("f16")


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is not there; name the folder that `edgeprune build"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no manifest.json; name the folder that"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_manifest_is_refused(folder: Path, size: int) -> None:
    os.truncate(folder / MANIFEST, size)
    with pytest.raises(InputError, match=r"manifest.json is damaged \(.*copy or build the bundle again"):
        open_bundle(folder)


def test_a_binary_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="manifest.json can't be read: .*expected UTF-8"):
        open_bundle(folder)


def test_a_manifest_that_is_no_mapping_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a mapping"):
        open_bundle(folder)


def test_a_newer_schema_is_refused_before_anything_else(folder: Path) -> None:
    change(folder, schema_version=SCHEMA + 1, a_key_of_the_future=1)
    words = f"has schema {SCHEMA + 1}, this edgeprune reads up to {SCHEMA}; upgrade edgeprune"
    with pytest.raises(InputError, match=words):
        open_bundle(folder)


def test_a_bundle_without_a_region_is_one_that_an_older_runtime_reads(folder: Path) -> None:
    """Schema 5, and no key that it does not know. One with a region it would refuse by its schema."""
    content = json.loads((folder / MANIFEST).read_text())
    assert content["schema_version"] == 5 and "region" not in content
    assert open_bundle(folder).manifest.inside_hw is None


def test_a_bundle_with_a_region_says_so(tmp_path: Path) -> None:
    rows = ["......", "######", "######", "###..."]
    manifest = bundles.write_bundle(tmp_path / "bundle", region=rows).manifest
    assert (manifest.schema_version, manifest.region) == (6, rows)
    assert (manifest.tokens, manifest.most_tokens, manifest.buckets[-1].first) == (24, 15, 15)
    inside_hw = manifest.inside_hw
    assert inside_hw is not None and [int(row.sum()) for row in inside_hw] == [0, 6, 6, 3]
    described = inspect(open_bundle(tmp_path / "bundle"))
    assert described["region"] == {"share": 15 / 24, "rows": rows}
    assert described["buckets"][-1]["token_share"] == 15 / 24


def test_a_precision_that_an_older_runtime_does_not_know_is_of_a_newer_schema(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("fp16", "int8-mlp", "int8"))
    assert bundle.manifest.schema_version == 7
    assert bundle.default_precision() == "int8" and bundle.graphs("int8-mlp").trunk == "graphs/int8-mlp-trunk.onnx"
    assert bundles.write_bundle(tmp_path / "float", precisions=("fp16", "int8-mlp")).default_precision() == "int8-mlp"


def test_buckets_for_budgets_are_of_a_newer_schema(tmp_path: Path) -> None:
    """A runtime that does not know them would give them to frames; one that reads a bundle without them is as before."""
    marked = bundles.write_bundle(tmp_path / "marked", for_budgets=("quarter",))
    assert marked.manifest.schema_version == SCHEMA_OF_BUDGETS == 8
    assert [bucket.for_budgets for bucket in marked.manifest.buckets] == [True, False, False]
    assert [bucket["for_budgets"] for bucket in inspect(marked)["buckets"]] == [True, False, False]
    without = bundles.write_bundle(tmp_path / "without")
    assert without.manifest.schema_version == 5 and "for_budgets" not in (without.folder / MANIFEST).read_text()


def test_what_older_bundles_say_and_nobody_reads_is_dropped(folder: Path) -> None:
    """The graphs of an experiment (schema 2); rows of `eval` and of the lint, which were always empty (4)."""
    change(folder, schema_version=2, one_tail={"fp16": "graphs/fp16-one-tail.onnx"}, accuracy=[], lint=[])
    assert open_bundle(folder).manifest.buckets
    change(folder, schema_version=4, accuracy=[{"bucket": "auto", "miou": 0.5}], lint=["3 graphs of opset 17"])
    assert not {"one_tail", "accuracy", "lint"} & open_bundle(folder).manifest.model_dump().keys()
    change(folder, schema_version=5)
    with pytest.raises(InputError, match="unknown key 'one_tail'"):
        open_bundle(folder)


def test_a_bundle_that_holds_its_whole_target_opens(folder: Path) -> None:
    """Up to schema 4 lint rules and buckets stood there too."""
    whole = load_target("jetson-orin-nano")
    change(folder, schema_version=4, accuracy=[], lint=[], target=whole.model_dump())
    found = open_bundle(folder).manifest.target
    assert found == whole.runtime() and found.power.total == ["VDD_IN"] and found.compiled_on_device


def test_a_key_of_the_target_may_be_newer_than_the_device(folder: Path) -> None:
    """It changes no labels, or the schema would be newer too. What this version knows is checked as ever."""
    target = json.loads((folder / MANIFEST).read_text())["target"]
    newer = target | {"fan": "quiet", "power": target["power"] | {"idle_w": 3.5}}
    change(folder, target=newer)
    assert open_bundle(folder).manifest.target == RuntimeSpec.model_validate(target)
    change(folder, target=newer | {"threads": "two"})
    with pytest.raises(InputError, match="target.threads: input should be a valid integer"):
        open_bundle(folder)
    change(folder, target=newer, schema_version=SCHEMA + 1)
    with pytest.raises(InputError, match=f"has schema {SCHEMA + 1}, this edgeprune reads up to {SCHEMA}"):
        open_bundle(folder)


def test_a_manifest_does_not_change(folder: Path) -> None:
    bundle = open_bundle(folder)
    other = bundle.seen_with(run="fp32")
    assert (other.default_precision(), bundle.default_precision()) == ("fp32", "int8")
    for part in (bundle.manifest, bundle.manifest.target, bundle.manifest.target.power, bundle.manifest.buckets[0]):
        with pytest.raises(ValidationError, match="frozen"):
            part.name = "another"  # type: ignore[misc, union-attr]


def test_preprocess_is_named_from_schema_4_on(folder: Path) -> None:
    """Before it no manifest named it and a run letterboxed: so it stays. What changes labels is not to be missing, or new."""
    content = json.loads((folder / MANIFEST).read_text())
    named = content.pop("preprocess")
    assert named == "letterbox"
    (folder / MANIFEST).write_text(json.dumps(content | {"schema_version": 3}))
    assert open_bundle(folder).manifest.preprocess == "letterbox"
    (folder / MANIFEST).write_text(json.dumps(content | {"schema_version": 4}))
    with pytest.raises(InputError, match="preprocess: field required"):
        open_bundle(folder)
    change(folder, preprocess="stretch")
    with pytest.raises(InputError, match="preprocess: input should be 'letterbox', found 'stretch'"):
        open_bundle(folder)


def test_an_unknown_key_of_this_schema_is_refused(folder: Path) -> None:
    change(folder, bucket=[])
    with pytest.raises(InputError, match="unknown key 'bucket'.*did you mean 'buckets'"):
        open_bundle(folder)


def files(folder: Path) -> list[str]:
    return sorted(open_bundle(folder).manifest.files)


def test_any_changed_file_is_refused(folder: Path) -> None:
    for name in files(folder):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(InputError, match=f"{name} does not match its hash, it was changed or cut off"):
            open_bundle(folder)
        path.write_bytes(whole[:-1])
        with pytest.raises(InputError, match=f"{name} does not match its hash"):
            open_bundle(folder)
        path.unlink()
        with pytest.raises(InputError, match=f"lacks {name}; copy or build the bundle again"):
            open_bundle(folder)
        path.write_bytes(whole)
    open_bundle(folder)


@pytest.mark.parametrize("name", ["graphs/int8-tail-half.onnx", "graphs/dense.onnx", "references.npz"])
def test_a_graph_without_a_hash_is_refused(folder: Path, name: str) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(folder, files={key: value for key, value in content["files"].items() if key != name})
    with pytest.raises(InputError, match=f"has no hash for {name}"):
        open_bundle(folder)

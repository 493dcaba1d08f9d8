"""`compile`, and the verbs that compile when it is needed, on a device with a fake TensorRT."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeprune.bundle import MIXED, Bundle, open_bundle
from edgeprune.errors import RunError
from edgeprune.evaluate import on_device
from tests import bundles
from tests.cli.conftest import Type
from tests.engines.jetson import Jetson

ROWS = [("trunk", each) for each in ("fp32", "int8")] + [
    (bucket, each) for bucket in ("quarter", "half", "full") for each in ("fp32", "int8")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a bundle for a device that compiles."""
    made = tmp_path_factory.mktemp("compile") / "bundle"
    bundles.write_bundle(made, stem_head=True, engine="tensorrt", compiled_on_device=True)
    return made


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def test_compile_measures_every_precision_and_keeps_the_choice(
    jetson: Jetson, edgeprune: Type, folder: Path, bundle: Bundle
) -> None:
    said = edgeprune("compile", folder, "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["rows"]
    assert [(row["bucket"], row["precision"]) for row in rows] == ROWS
    assert [row["agreement"] for row in rows[2:]] == [1.0] * 6 and all(row["p50_ms"] > 0 for row in rows)
    assert [sum(row["chosen"] for row in rows if row["bucket"] == name) for name in ("trunk", "half")] == [1, 1]
    assert "compiles 10 graphs for this device" in said.err  # dense and stem too
    assert [rows] == list(json.loads((jetson.cache.parent / on_device.CHOICES).read_text()).values())
    assert on_device.take_choice(bundle)
    trunk = next(row["precision"] for row in rows[:2] if row["chosen"])
    same = {row["precision"] for row in rows if row["chosen"]} == {trunk}
    assert bundle.default_precision() == (trunk if same else MIXED)


def test_compile_shows_a_table_and_what_comes_next(jetson: Jetson, edgeprune: Type, folder: Path) -> None:
    said = edgeprune("compile", folder)
    assert said.out.splitlines()[0].split() == ["bucket", "precision", "p50", "ms", "equal", "labels", "chosen"]
    assert said.out.splitlines()[-1] == f"next: edgeprune run --bundle {folder} --camera 0"
    jetson.restart()
    assert "compiles" not in edgeprune("compile", folder).err
    assert "compiles 10 graphs" in edgeprune("compile", folder, "--again").err


def test_trtexecs_commands_need_no_device(edgeprune: Type, folder: Path) -> None:
    said = edgeprune("compile", folder, "--print-trtexec")
    assert said.code == 0 and len(said.out.splitlines()) == 8
    assert f"--onnx={folder}/graphs/int8-tail-half.onnx --saveEngine=int8-tail-half.plan" in said.out


def test_on_a_machine_without_tensorrt_it_says_so(edgeprune: Type, folder: Path) -> None:
    said = edgeprune("compile", folder)
    assert said.code == 2 and "this engine needs TensorRT, which cannot be imported" in said.err


def test_there_is_nothing_to_compile_for_other_engines(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("compile", tiny)
    assert said.code == 0 and "onnxruntime reads the bundle's graphs as they are" in said.err


def test_run_compiles_chooses_and_runs(jetson: Jetson, edgeprune: Type, folder: Path) -> None:
    command = ("run", "--bundle", folder, "--camera", "synthetic://street?seed=1", "--frames", 3, "--json")
    said = edgeprune(*command)
    assert said.code == 0, said.err
    assert "compiles 8 graphs for this device" in said.err and "equal labels" in said.err
    assert json.loads(said.out)["frames"] == 3
    jetson.restart()
    assert "compiles" not in edgeprune(*command).err


# ------------------------------------------------------------------------------------------------ the choice


def pick(bundle: Bundle, times_ms: dict[str, tuple[float, float]], agreement: dict[str, tuple[float, float]]) -> str:
    """The precisions of trunk, quarter, half and full, from figures of (fp32, int8) each."""
    precisions = bundle.manifest.precisions
    rows = on_device._pick(
        bundle,
        {(name, each): value for name, both in agreement.items() for each, value in zip(precisions, both, strict=True)},
        {(name, each): value for name, both in times_ms.items() for each, value in zip(precisions, both, strict=True)},
    )
    return " ".join(row["precision"] for row in rows if row["chosen"])


ALL_AGREE = {"quarter": (1.0, 1.0), "half": (1.0, 1.0), "full": (1.0, 1.0)}


def test_each_bucket_takes_its_fastest_tail(bundle: Bundle) -> None:
    # int8 is slower over all in `full`, by 2 ms, of which its trunk loses 1
    times_ms = {"trunk": (4.0, 5.0), "quarter": (9.0, 7.0), "half": (12.0, 9.0), "full": (20.0, 22.0)}
    assert pick(bundle, times_ms, ALL_AGREE) == "int8 int8 int8 fp32"
    assert pick(bundle, times_ms | {"full": (20.0, 20.5)}, ALL_AGREE) == "int8 int8 int8 int8"


def test_a_precision_that_answers_otherwise_is_not_taken(bundle: Bundle) -> None:
    times_ms = {"trunk": (5.0, 2.0), "quarter": (9.0, 4.0), "half": (12.0, 6.0), "full": (20.0, 9.0)}
    # the trunk's precision must hold in every bucket
    assert pick(bundle, times_ms, ALL_AGREE | {"half": (1.0, 0.95)}) == "fp32 int8 fp32 int8"
    with pytest.raises(RunError, match="bucket half does not answer as .* equal labels fp32 90.00%, int8 95.00%"):
        pick(bundle, times_ms, ALL_AGREE | {"half": (0.9, 0.95)})


def test_where_no_precision_holds_in_every_bucket_nothing_is_taken(bundle: Bundle) -> None:
    times_ms = {"trunk": (5.0, 2.0), "quarter": (9.0, 4.0), "half": (12.0, 6.0), "full": (20.0, 9.0)}
    with pytest.raises(RunError, match="no precision answers as the bundle's references do in every bucket"):
        pick(bundle, times_ms, ALL_AGREE | {"half": (1.0, 0.9), "full": (0.9, 1.0)})


def test_labels_are_compared_with_the_references(jetson: Jetson, edgeprune: Type, tmp_path: Path) -> None:
    """Graphs that say something else than the bundle's references are refused, and nothing is kept."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    path = made.path(made.manifest.references)
    with np.load(path) as content:
        wrong = {name: (array + 1 if "/" in name else array) for name, array in content.items()}
    np.savez(path, **wrong)
    from edgeprune.bundle import write_manifest

    write_manifest(made.folder, made.manifest)
    said = edgeprune("compile", made.folder)
    assert said.code == 3 and "bucket quarter does not answer as the bundle's references do" in said.err
    assert not (jetson.cache.parent / on_device.CHOICES).exists()


def test_a_mixed_choice_opens_the_graphs_it_names(jetson: Jetson, bundle: Bundle) -> None:
    rows = [
        {
            "bucket": name,
            "precision": each,
            "p50_ms": 1.0,
            "agreement": 1.0,
            "chosen": (name == "full") == (each == "fp32"),
        }
        for name, each in ROWS
    ]
    on_device._keep(bundle, rows)
    assert on_device.take_choice(bundle) and bundle.default_precision() == MIXED
    chosen = bundle.graphs(MIXED)
    assert chosen.trunk == "graphs/int8-trunk.onnx" and chosen.tails["full"] == "graphs/fp32-tail-full.onnx"
    assert chosen.tails["half"] == "graphs/int8-tail-half.onnx"


def test_doctor_says_what_is_here(edgeprune: Type) -> None:
    said = edgeprune("doctor")
    assert said.code == 0
    lines = {line[8:24].strip(): line for line in said.out.splitlines()}
    assert lines["ONNX Runtime"].startswith("ok ") and len(lines) == 17
    findings = json.loads(edgeprune("doctor", "--json").out)["findings"]
    assert [row["what"] for row in findings] == list(lines)


def test_a_mixture_that_does_not_answer_is_not_kept(
    jetson: Jetson, edgeprune: Type, folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each precision agrees as a whole; what `hold_mixed` decides of the mixture is what is kept."""
    seen: list[str] = []

    def hold(opened: Bundle, engine: object, rows: list[dict[str, object]], say: object) -> None:
        seen.extend(str(row["precision"]) for row in rows if row["chosen"])
        for row in rows:
            row["chosen"] = row["precision"] == "fp32"

    monkeypatch.setattr(on_device, "hold_mixed", hold)
    said = edgeprune("compile", folder, "--json")
    assert said.code == 0 and len(seen) == 4
    assert {row["precision"] for row in json.loads(said.out)["rows"] if row["chosen"]} == {"fp32"}
    assert on_device.take_choice(bundle) and bundle.manifest.run == "fp32"

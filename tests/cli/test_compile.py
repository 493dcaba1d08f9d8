"""`compile`, and the verbs that compile when it is needed, on a device with a fake TensorRT."""

import json
from pathlib import Path

import pytest

from edgeprune.bundle import MIXED, Bundle
from edgeprune.runtime import kept_choice as kept
from edgeprune.runtime import preparing
from tests import bundles
from tests.cli.compiled import ROWS, one_picture
from tests.cli.conftest import Type
from tests.runtime.engines.jetson import ENGINE, Jetson


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
    assert json.loads(said.out)["dropped"] == json.loads(said.out)["failed"] == {}
    [entry] = json.loads((jetson.cache.parent / kept.CHOICES).read_text()).values()
    assert entry["rows"] == rows and entry["dropped"] == {} and all(entry["plans"].values())
    assert {row["typing"] for row in rows} == {"strong"}
    choice = kept.kept_choice(bundle, ENGINE)
    assert choice and choice.rows("agreement", "typing") == rows
    trunk = next(row["precision"] for row in rows[:2] if row["chosen"])
    same = {row["precision"] for row in rows if row["chosen"]} == {trunk}
    assert choice.trunk == trunk and choice.run == (trunk if same else MIXED)
    assert kept.as_chosen(bundle, ENGINE, choice).default_precision() == choice.run


def test_compile_shows_a_table_and_what_comes_next(jetson: Jetson, edgeprune: Type, folder: Path) -> None:
    said = edgeprune("compile", folder)
    assert said.out.splitlines()[0].split() == [
        "bucket",
        "precision",
        "p50",
        "ms",
        "equal",
        "labels",
        "typing",
        "chosen",
    ]
    assert said.out.splitlines()[-1] == f"next: edgeprune run --bundle {folder} --camera 0"
    jetson.restart()
    assert "compiles" not in edgeprune("compile", folder).err
    assert "compiles 10 graphs" in edgeprune("compile", folder, "--again").err


def test_trtexecs_commands_need_no_device(edgeprune: Type, folder: Path) -> None:
    said = edgeprune("trtexec", folder)
    assert said.code == 0 and len(said.out.splitlines()) == 8
    assert f"--onnx={folder}/graphs/int8-tail-half.onnx --saveEngine=int8-tail-half.plan" in said.out


def test_trtexecs_commands_are_of_a_bundle_for_tensorrt(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("trtexec", tiny)
    assert said.code == 2 and said.err.count("\n") == 1 and "build with --target jetson-orin" in said.err


def test_on_a_machine_without_tensorrt_it_says_so(edgeprune: Type, folder: Path) -> None:
    said = edgeprune("compile", folder)
    assert said.code == 2 and said.err.count("\n") == 1
    assert f"target test of {folder}: this engine needs TensorRT, which cannot be imported" in said.err


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--camera", "synthetic://street?seed=1"),
        ("run", "--camera", "csi://0"),
        ("run", "--camera", "0", "--meter", "ina3221"),
        ("bench", "--rounds", "1"),
        ("bench", "--rounds", "1", "--meter", "ina3221"),
        ("eval", "--data", "street", "--frames", "1"),
        ("scaling", "--rounds", "1"),
        ("compile",),
    ],
)
def test_on_another_machine_the_first_word_is_of_tensorrt(
    edgeprune: Type, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Not of the board's power sensor, nor of anything else that the target wants."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True, meter="ina3221")
    where = (made.folder,) if command == ("compile",) else ("--bundle", made.folder)
    said = edgeprune(*command, *where)
    assert said.code == 2 and "INA3221" not in said.err
    [line] = said.err.splitlines()
    assert "needs TensorRT, which cannot be imported" in line
    assert line.endswith("or take a bundle for this machine's CPU: `edgeprune build --target onnx-cpu`")


def test_another_engine_on_another_machine_runs_without_the_boards_sensor(edgeprune: Type, tmp_path: Path) -> None:
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True, meter="ina3221")
    command = (
        "run",
        "--bundle",
        made.folder,
        "--engine",
        "onnxruntime",
        "--camera",
        "synthetic://street?seed=1",
        "--frames",
        1,
    )
    said = edgeprune(*command, "--json")
    assert said.code == 0 and "no INA3221" in json.loads(said.out)["energy"]["status"]
    said = edgeprune(*command, "--meter", "ina3221")
    assert said.code == 2 and "no INA3221" in said.err


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


def test_graphs_that_cannot_be_compiled_cost_their_buckets_alone(
    jetson: Jetson, edgeprune: Type, tmp_path: Path
) -> None:
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    names = ("fp32-tail-half", "int8-tail-half", "int8-tail-quarter", "stem-head")
    jetson.trt.refuses_graph = dict.fromkeys(names, "no implementation for node x")
    said = edgeprune("compile", made.folder, "--json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert set(answer["failed"]) == {f"{name}.onnx" for name in names}
    assert answer["dropped"] == {"half": "it could not be compiled in any precision"}
    figures = {(row["bucket"], row["precision"]): row["p50_ms"] for row in answer["rows"]}
    assert figures["quarter", "int8"] is None and figures["quarter", "fp32"] > 0
    jetson.trt.built.clear()
    command = ("run", "--bundle", made.folder, "--camera", one_picture(tmp_path, 3))
    said = edgeprune(*command)
    assert said.code == 0 and "half is not used on this device" in said.err
    assert jetson.trt.built == [] and "compiles" not in said.err  # what fails is not tried again at every start
    said = edgeprune(*command, "--precision", "int8")
    assert said.code == 0 and "unknown" not in said.err


def test_a_trunk_that_cannot_be_compiled_ends_it(jetson: Jetson, edgeprune: Type, folder: Path) -> None:
    jetson.trt.refuses_graph = dict.fromkeys(("fp32-trunk", "int8-tail-full"), "no implementation for node x")
    said = edgeprune("compile", folder)
    assert said.code == 3 and said.err.splitlines()[-1].endswith("fp32-trunk.onnx: no implementation for node x")
    assert len(list(jetson.cache.glob("*.plan"))) == 8  # nothing is lost of what could be
    jetson.trt.refuses_graph = {}
    assert "compiles 2 graphs" in edgeprune("compile", folder).err


def test_a_run_takes_what_memory_holds_and_says_so(
    jetson: Jetson, edgeprune: Type, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jetson.trt.weights = 1 << 20
    monkeypatch.setenv("EDGEPRUNE_MEMORY_MB", "4")
    pictures = one_picture(tmp_path, 9)
    said = edgeprune("run", "--bundle", folder, "--camera", pictures, "--precision", "fp32", "--json")
    assert said.code == 0 and "half: left out in fp32, all buckets take 4 MB together and 4 may be taken" in said.err
    assert json.loads(said.out)["buckets"] == {"full": 1}
    said = edgeprune("run", "--bundle", folder, "--camera", pictures, "--bucket", "half", "--json")
    assert said.code == 0 and json.loads(said.out)["buckets"] == {"half": 1}  # alone it fits


def test_a_board_that_is_not_in_its_fastest_mode_is_told(
    jetson: Jetson, edgeprune: Type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "the board is in power mode 15W (mode 0); its fastest is MAXN_SUPER: sudo nvpmodel -m 2, then sudo jetson_clocks"
    monkeypatch.setattr(preparing, "slower_than_it_could_be", lambda: line)
    run = ("run", "--bundle", folder, "--camera", "synthetic://street?seed=1", "--frames", 1)
    assert line in edgeprune("compile", folder).err and line in edgeprune(*run).err


def test_doctor_says_what_is_here(edgeprune: Type) -> None:
    said = edgeprune("doctor")
    assert said.code == 0
    lines = {line[8:24].strip(): line for line in said.out.splitlines()}
    assert lines["ONNX Runtime"].startswith("ok ") and len(lines) == 18
    findings = json.loads(edgeprune("doctor", "--json").out)["findings"]
    assert [row["what"] for row in findings] == list(lines)

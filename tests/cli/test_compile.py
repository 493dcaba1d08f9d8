"""`compile`, and the verbs that compile when it is needed, on a device with a fake TensorRT."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import RunError
from edgeprune.bundle import MIXED, Bundle, open_bundle, write_manifest
from edgeprune.cli import device
from edgeprune.cli.device import prepare_run
from edgeprune.evaluate.accuracy import evaluate
from edgeprune.evaluate.bench import list_entries
from edgeprune.evaluate.worker import Job, open_job
from edgeprune.runtime import compiling as on_device
from tests import bundles
from tests.cli.conftest import Type
from tests.evaluate.test_accuracy import Frames, cells
from tests.runtime.engines.jetson import ENGINE, Jetson

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
    assert json.loads(said.out)["dropped"] == json.loads(said.out)["failed"] == {}
    [kept] = json.loads((jetson.cache.parent / on_device.CHOICES).read_text()).values()
    assert kept["rows"] == rows and kept["dropped"] == {} and all(kept["plans"].values())
    assert {row["typing"] for row in rows} == {"strong"}
    assert on_device.take_choice(bundle, ENGINE)
    trunk = next(row["precision"] for row in rows[:2] if row["chosen"])
    same = {row["precision"] for row in rows if row["chosen"]} == {trunk}
    assert bundle.default_precision() == (trunk if same else MIXED)


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
    said = edgeprune("compile", folder, "--print-trtexec")
    assert said.code == 0 and len(said.out.splitlines()) == 8
    assert f"--onnx={folder}/graphs/int8-tail-half.onnx --saveEngine=int8-tail-half.plan" in said.out


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
        ("growth", "--rounds", "1"),
        ("compile",),
    ],
)
def test_on_another_machine_the_first_word_is_of_tensorrt(
    edgeprune: Type, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Not of the board's power sensor, nor of anything else that the target wants."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    made.manifest.target.power.meter = "ina3221"
    write_manifest(made.folder, made.manifest)
    where = (made.folder,) if command == ("compile",) else ("--bundle", made.folder)
    said = edgeprune(*command, *where)
    assert said.code == 2 and "INA3221" not in said.err
    [line] = said.err.splitlines()
    assert "needs TensorRT, which cannot be imported" in line
    assert line.endswith("or take a bundle for this machine's CPU: `edgeprune build --target onnx-cpu`")


def one_picture(folder: Path, bright_cells: int) -> Path:
    """A folder with one frame."""
    pictures = folder / "pictures"
    pictures.mkdir()
    Image.fromarray(bundles.frame_with(bright_cells)).save(pictures / "frame.png")
    return pictures


def test_another_engine_on_another_machine_runs_without_the_boards_sensor(edgeprune: Type, tmp_path: Path) -> None:
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    made.manifest.target.power.meter = "ina3221"
    write_manifest(made.folder, made.manifest)
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


# ------------------------------------------------------------------------------------------------ the choice


Two = tuple[float | None, float | None]  # of fp32 and int8


def choose(bundle: Bundle, times_ms: dict[str, tuple[float, float]], agreement: dict[str, Two]) -> on_device.Choice:
    precisions = bundle.manifest.precisions
    return on_device._pick(
        bundle,
        {
            (name, each): value
            for name, both in agreement.items()
            for each, value in zip(precisions, both, strict=True)
            if value is not None
        },
        {(name, each): value for name, both in times_ms.items() for each, value in zip(precisions, both, strict=True)},
    )


def pick(bundle: Bundle, times_ms: dict[str, tuple[float, float]], agreement: dict[str, Two]) -> str:
    """The precisions of trunk, quarter, half and full, `-` where it is dropped."""
    chosen = {row["bucket"]: row["precision"] for row in choose(bundle, times_ms, agreement).rows if row["chosen"]}
    return " ".join(chosen.get(name, "-") for name in ("trunk", "quarter", "half", "full"))


ALL_AGREE: dict[str, Two] = {"quarter": (1.0, 1.0), "half": (1.0, 1.0), "full": (1.0, 1.0)}


def test_each_bucket_takes_its_fastest_tail(bundle: Bundle) -> None:
    # int8 is slower over all in `full`, by 2 ms, of which its trunk loses 1
    times_ms = {"trunk": (4.0, 5.0), "quarter": (9.0, 7.0), "half": (12.0, 9.0), "full": (20.0, 22.0)}
    assert pick(bundle, times_ms, ALL_AGREE) == "int8 int8 int8 fp32"
    assert pick(bundle, times_ms | {"full": (20.0, 20.5)}, ALL_AGREE) == "int8 int8 int8 int8"


def test_a_precision_that_answers_otherwise_is_not_taken(bundle: Bundle) -> None:
    times_ms = {"trunk": (5.0, 2.0), "quarter": (9.0, 4.0), "half": (12.0, 6.0), "full": (20.0, 9.0)}
    # the trunk's precision must hold in most buckets
    assert pick(bundle, times_ms, ALL_AGREE | {"half": (1.0, 0.95)}) == "fp32 int8 fp32 int8"
    assert pick(bundle, times_ms, ALL_AGREE | {"full": (1.0, 0.95)}) == "fp32 int8 int8 fp32"
    # and in the full grid
    assert pick(bundle, times_ms, ALL_AGREE | {"quarter": (0.9, 1.0), "full": (1.0, 0.9)}) == "fp32 int8 int8 fp32"


def test_a_bucket_that_answers_in_no_precision_is_dropped(bundle: Bundle) -> None:
    times_ms = {"trunk": (5.0, 2.0), "quarter": (9.0, 4.0), "half": (12.0, 6.0), "full": (20.0, 9.0)}
    figures = ALL_AGREE | {"half": (0.9, 0.95)}
    assert pick(bundle, times_ms, figures) == "int8 int8 - int8"
    choice = choose(bundle, times_ms, figures)
    assert choice.lines() == [
        "half is not used on this device: labels equal to the bundle's references: fp32 90.00%, int8 95.00%; at least fp32 "
        "99.90%, int8 99.00% expected"
    ]
    assert (
        "fp32 not compiled, int8 95.00%; at least int8 99.00%"
        in choose(bundle, times_ms, ALL_AGREE | {"half": (None, 0.95)}).dropped["half"]
    )
    assert choose(bundle, times_ms, ALL_AGREE | {"half": (None, None)}).dropped == {
        "half": "it could not be compiled in any precision"
    }


def test_without_the_full_grid_nothing_is_taken(bundle: Bundle) -> None:
    times_ms = {"trunk": (5.0, 2.0), "quarter": (9.0, 4.0), "half": (12.0, 6.0), "full": (20.0, 9.0)}
    with pytest.raises(RunError, match="bucket full, which every frame can fall back on, .* fp32 90.00%, int8 95.00%"):
        pick(bundle, times_ms, ALL_AGREE | {"full": (0.9, 0.95)})


def spoil(bundle: Bundle, *keys: str) -> None:
    """Other labels in the bundle's references, of these graphs."""
    path = bundle.path(bundle.manifest.references)
    with np.load(path) as content:
        wrong = {name: (array + 1 if name in keys else array) for name, array in content.items()}
    np.savez(path, **wrong)
    write_manifest(bundle.folder, bundle.manifest)


def test_labels_are_compared_with_the_references(jetson: Jetson, edgeprune: Type, tmp_path: Path) -> None:
    """Graphs that say something else than the bundle's references are refused, and nothing is kept."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, *(f"{each}/{name}" for each in ("fp32", "int8") for name in bundles.BUCKETS))
    said = edgeprune("compile", made.folder)
    assert (
        said.code == 3
        and "bucket full, which every frame can fall back on, can't be used here: labels equal" in said.err
    )
    assert not (jetson.cache.parent / on_device.CHOICES).exists()


def test_a_bucket_that_is_dropped_is_said_and_the_next_larger_one_is_taken(
    jetson: Jetson, edgeprune: Type, tmp_path: Path
) -> None:
    """By `compile`, and by every verb after it, in this process or another."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, "fp32/half", "int8/half")
    said = edgeprune("compile", made.folder, "--json")
    assert said.code == 0
    line = "half is not used on this device: labels equal to the bundle's references: fp32 0.00%, int8 0.00%; at least"
    assert line in said.err
    answer = json.loads(said.out)
    assert list(answer["dropped"]) == ["half"]
    assert [row["chosen"] for row in answer["rows"] if row["bucket"] == "half"] == [False, False]
    jetson.restart()
    # 9 bright cells: over `quarter`, and `half` would hold them
    command = ("run", "--bundle", made.folder, "--camera", one_picture(tmp_path, 9))
    said = edgeprune(*command, "--json")
    assert said.code == 0 and line in said.err and "compiles" not in said.err
    assert json.loads(said.out)["buckets"] == {"full": 1}
    said = edgeprune(*command, "--bucket", "half")
    assert said.code == 2 and "no bucket 'half'; choices: quarter, full" in said.err
    opened = open_bundle(made.folder)
    assert on_device.take_choice(opened, ENGINE)
    assert [bucket.name for bucket in opened.manifest.buckets] == ["quarter", "full"]
    assert {name for graphs in opened.manifest.graphs.values() for name in graphs.tails} == {"quarter", "full"}


def test_a_bucket_that_falls_back_on_a_precision_in_which_it_does_not_answer_is_dropped(
    thor: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers in fp32 behind an fp32 trunk, not behind the int8 trunk that the others take, and not in int8."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, "int8/half")
    ENGINE.prepare(on_device.graphs_of(made), lambda line: None)
    monkeypatch.setattr(on_device, "_time", lambda sessions, *_: {"fp32": (2.0, 9.0), "int8": (1.0, 3.0)})

    def falls_back(opened: Bundle, engine: object, rows: list[dict[str, object]], say: object) -> None:
        for row in rows:
            row["chosen"] = row["precision"] == "int8"

    monkeypatch.setattr(on_device, "hold_mixed", falls_back)
    choice = on_device.choose_on_device(made, ENGINE, lambda line: None)
    assert choice.dropped == {
        "half": "behind the trunk in int8 it does not answer; labels equal to the bundle's references: fp32 100.00%, int8 "
        "0.00%; at least fp32 99.90%, int8 99.00% expected"
    }
    assert not any(row["chosen"] for row in choice.rows if row["bucket"] == "half")


def test_graphs_that_cannot_be_compiled_cost_their_buckets_alone(
    jetson: Jetson, edgeprune: Type, tmp_path: Path
) -> None:
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True, stem_head=True)
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


def test_a_choice_is_made_anew_where_its_graphs_were(
    jetson: Jetson, edgeprune: Type, folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """After an update of TensorRT the plans are others: what was measured of the old ones says nothing of them."""
    assert edgeprune("compile", folder).code == 0 and on_device.take_choice(bundle, ENGINE)
    jetson.restart("10.17.0")
    assert on_device.take_choice(bundle, ENGINE) is None
    said = edgeprune("run", "--bundle", folder, "--camera", one_picture(tmp_path, 3))
    assert said.code == 0 and "compiles 8 graphs" in said.err and "equal labels" in said.err
    assert on_device.take_choice(bundle, ENGINE)


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
    ENGINE.prepare(on_device.graphs_of(bundle), lambda line: None)
    on_device._keep(bundle, ENGINE, on_device.Choice(rows, {}))
    assert on_device.take_choice(bundle, ENGINE) and bundle.default_precision() == MIXED
    chosen = bundle.graphs(MIXED)
    assert chosen.trunk == "graphs/int8-trunk.onnx" and chosen.tails["full"] == "graphs/fp32-tail-full.onnx"
    assert chosen.tails["half"] == "graphs/int8-tail-half.onnx"


def test_bench_and_eval_take_what_the_device_chose(
    jetson: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, and in the workers that time a graph each."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, "fp32/half", "int8/half")
    opened = open_bundle(made.folder)
    prepare_run(opened, "tensorrt", on_device.single_graphs(opened))
    entries = list_entries(opened, Job("", "tensorrt", 1, ""), None)
    assert [entry.bucket for entry in entries if entry.job.kind == "bucket" and entry.job.precision == "int8"] == [
        "quarter",
        "full",
    ]
    timed, description = open_job(
        Job("auto", "tensorrt", 1, "", bundle=str(made.folder), precision=opened.manifest.run or "")
    )
    assert description["engine"] == "tensorrt"
    assert timed(bundles.frame_with(9)) == "full" and timed(bundles.frame_with(6)) == "quarter"
    rows = evaluate(opened, Frames(9), cells(), engine="tensorrt", dense_graph=None)["rows"]
    assert {(row["bucket"], row["precision"]) for row in rows} == {("dense", "fp32")} | {
        (bucket, each) for bucket in ("quarter", "full", "auto") for each in opened.manifest.graphs
    }


def test_a_board_that_is_not_in_its_fastest_mode_is_told(
    jetson: Jetson, edgeprune: Type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "the board is in power mode 15W (mode 0); its fastest is MAXN_SUPER: sudo nvpmodel -m 2, then sudo jetson_clocks"
    monkeypatch.setattr(device, "slower_than_it_could_be", lambda: line)
    run = ("run", "--bundle", folder, "--camera", "synthetic://street?seed=1", "--frames", 1)
    assert line in edgeprune("compile", folder).err and line in edgeprune(*run).err


def test_doctor_says_what_is_here(edgeprune: Type) -> None:
    said = edgeprune("doctor")
    assert said.code == 0
    lines = {line[8:24].strip(): line for line in said.out.splitlines()}
    assert lines["ONNX Runtime"].startswith("ok ") and len(lines) == 18
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
    assert on_device.take_choice(bundle, ENGINE) and bundle.manifest.run == "fp32"

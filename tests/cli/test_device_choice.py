"""What a device chooses of a compiled bundle: a precision for each bucket, and which buckets it drops; every verb takes it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.device import cache_folder
from edgeprune.base.errors import RunError
from edgeprune.bundle import MANIFEST, MIXED, Bundle, open_bundle
from edgeprune.evaluate.accuracy import evaluate
from edgeprune.evaluate.bench import list_entries
from edgeprune.evaluate.worker import Job, open_job
from edgeprune.runtime import compiling as on_device
from edgeprune.runtime import kept_choice as kept
from edgeprune.runtime.precision_choice import Choice, Measured
from edgeprune.runtime.preparing import prepare_run
from tests import bundles
from tests.cli.compiled import ROWS, one_picture, spoil
from tests.cli.conftest import Type
from tests.evaluate.test_accuracy import Frames, cells
from tests.runtime.engines.jetson import ENGINE, Jetson

Two = tuple[float | None, float | None]  # of fp32 and int8


def choose(bundle: Bundle, times_ms: dict[str, tuple[float, float]], agreement: dict[str, Two]) -> Choice:
    return on_device.pick(
        bundle,
        [
            Measured(name, each, times_ms[name][index], agreement=agreement.get(name, (None, None))[index])
            for name in times_ms
            for index, each in enumerate(bundle.manifest.precisions)
        ],
    )


def pick(bundle: Bundle, times_ms: dict[str, tuple[float, float]], agreement: dict[str, Two]) -> str:
    """The precisions of trunk, quarter, half and full, `-` where it is dropped."""
    choice = choose(bundle, times_ms, agreement)
    return " ".join([choice.trunk, *(choice.tails.get(name, "-") for name in ("quarter", "half", "full"))])


ALL_AGREE: dict[str, Two] = {"quarter": (1.0, 1.0), "half": (1.0, 1.0), "full": (1.0, 1.0)}


def test_each_bucket_takes_its_fastest_tail(bundle: Bundle) -> None:
    # int8 is slower over all in `full`, by 2 ms, of which its trunk loses 1
    times_ms = {"trunk": (4.0, 5.0), "quarter": (9.0, 7.0), "half": (12.0, 9.0), "full": (20.0, 22.0)}
    assert pick(bundle, times_ms, ALL_AGREE) == "int8 int8 int8 fp32"
    assert pick(bundle, times_ms | {"full": (20.0, 20.5)}, ALL_AGREE) == "int8 int8 int8 int8"


def test_one_of_three_precisions_is_taken_for_each_bucket(
    jetson: Jetson, edgeprune: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 projections around fused attention may be slow or wrong; INT8 of the MLPs alone is chosen as INT8 of all is."""
    made = bundles.write_bundle(
        tmp_path / "bundle", precisions=("int8", "int8-mlp", "fp16"), engine="tensorrt", compiled_on_device=True
    )
    spoil(made, "int8/half")
    frame_ms = {"quarter": (5, 6, 9), "half": (7, 8, 12), "full": (24, 18, 19)}

    def time(sessions: Any, bucket: str, _: object) -> dict[str, tuple[list[float], list[float]]]:
        return {each: ([2.0], [float(ms)]) for each, ms in zip(sessions, frame_ms[bucket], strict=True)}

    monkeypatch.setattr(on_device, "_time", time)
    said = edgeprune("compile", made.folder, "--json")
    assert said.code == 0, said.err
    rows = {(row["bucket"], row["precision"]): row for row in json.loads(said.out)["rows"]}
    assert len(rows) == 12 and rows["half", "int8"]["agreement"] == 0.0
    chosen = {bucket: each for (bucket, each), row in rows.items() if row["chosen"]}
    assert chosen == {"trunk": "int8-mlp", "quarter": "int8", "half": "int8-mlp", "full": "int8-mlp"}
    kept_here = kept.kept_choice(open_bundle(made.folder), ENGINE)
    assert kept_here and {"trunk": kept_here.trunk, **kept_here.tails} == chosen
    command = ("run", "--bundle", made.folder, "--camera", one_picture(tmp_path, 9), "--json")
    for named, ran in ((("--precision", "int8-mlp"), "int8-mlp"), ((), MIXED)):
        said = edgeprune(*command, *named)
        assert said.code == 0 and json.loads(said.out)["engine"]["precision"] == ran


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
    assert choose(bundle, times_ms, figures).dropped == {
        "half": "labels equal to the bundle's references: fp32 90.00%, int8 95.00%; at least fp32 99.90%, int8 99.00% expected"
    }
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


def test_labels_are_compared_with_the_references(jetson: Jetson, edgeprune: Type, tmp_path: Path) -> None:
    """Graphs that say something else than the bundle's references are refused, and nothing is kept."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, *(f"{each}/{name}" for each in ("fp32", "int8") for name in bundles.BUCKETS))
    said = edgeprune("compile", made.folder)
    assert (
        said.code == 3
        and "bucket full, which every frame can fall back on, can't be used here: labels equal" in said.err
    )
    assert not (jetson.cache.parent / kept.CHOICES).exists()


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
    assert said.code == 2 and "unknown bucket 'half'; choices: quarter, full" in said.err
    opened = open_bundle(made.folder)
    choice = kept.kept_choice(opened, ENGINE)
    assert choice
    run_here = kept.as_chosen(opened, ENGINE, choice).manifest
    assert [bucket.name for bucket in run_here.buckets] == ["quarter", "full"]
    assert {name for graphs in run_here.graphs.values() for name in graphs.tails} == {"quarter", "full"}
    assert len(opened.manifest.buckets) == 3 and "half" in opened.manifest.graphs["int8"].tails


def test_a_bucket_that_falls_back_on_a_precision_in_which_it_does_not_answer_is_dropped(
    thor: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers in fp32 behind an fp32 trunk, not behind the int8 trunk that the others take, and not in int8."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, "int8/half")
    ENGINE.prepare(on_device.graphs_of(made))
    monkeypatch.setattr(on_device, "_time", lambda sessions, *_: {"fp32": (2.0, 9.0), "int8": (1.0, 3.0)})

    def falls_back(opened: Bundle, engine: object, choice: Choice) -> Choice:
        return replace(choice, trunk="int8", tails=dict.fromkeys(choice.tails, "int8"))

    monkeypatch.setattr(on_device, "revert_failing_tails", falls_back)
    choice = on_device.choose_on_device(made, ENGINE)
    assert choice.dropped == {
        "half": "behind the trunk in int8 it does not answer; labels equal to the bundle's references: fp32 100.00%, int8 "
        "0.00%; at least fp32 99.90%, int8 99.00% expected"
    }
    assert "half" not in choice.tails and choice.tails["full"] == "int8"


def test_a_choice_is_made_anew_where_its_graphs_were(
    jetson: Jetson, edgeprune: Type, folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """After an update of TensorRT the plans are others: what was measured of the old ones says nothing of them."""
    assert edgeprune("compile", folder).code == 0 and kept.kept_choice(bundle, ENGINE)
    jetson.restart("10.17.0")
    assert kept.kept_choice(bundle, ENGINE) is None
    said = edgeprune("run", "--bundle", folder, "--camera", one_picture(tmp_path, 3))
    assert said.code == 0 and "compiles 8 graphs" in said.err and "equal labels" in said.err
    assert kept.kept_choice(bundle, ENGINE)


@pytest.mark.parametrize(
    "change",
    [
        {"plans": ["x"]}, {"plans": None}, {"plans": {"../../etc/passwd": None}},
        {"rows": []}, {"rows": [1]}, {"dropped": None},
        {"rows": [{"bucket": "trunk", "precision": "zz", "p50_ms": 1.0, "agreement": None, "chosen": True}]},
        {"dropped": {"quarter": "", "half": "", "full": ""}},
        {"rows": [{"bucket": "trunk", "precision": "int8", "p50_ms": "1.0", "agreement": None, "chosen": True}]},
        {"rows": [{"bucket": "trunk", "precision": "int8", "p50_ms": 1.0, "agreement": None, "chosen": "yes"}]},
    ],
)  # fmt: skip
def test_a_kept_choice_that_no_version_wrote_is_none(jetson: Jetson, bundle: Bundle, change: dict[str, Any]) -> None:
    graphs = on_device.graphs_of(bundle)
    ENGINE.prepare(graphs)
    measured = [Measured(name, each, 1.0, agreement=1.0) for name, each in ROWS]
    kept.keep_choice(bundle, ENGINE, graphs, Choice("int8", {"full": "fp32"}, measured))
    path = cache_folder() / kept.CHOICES
    [(key, entry)] = json.loads(path.read_text()).items()
    assert kept.kept_choice(bundle, ENGINE) is not None
    path.write_text(json.dumps({key: entry | change}))
    assert kept.kept_choice(bundle, ENGINE) is None
    path.write_text("[" * 100_000)
    assert kept.kept_choice(bundle, ENGINE) is None


def test_a_mixed_choice_opens_the_graphs_it_names(jetson: Jetson, bundle: Bundle) -> None:
    graphs = on_device.graphs_of(bundle)
    ENGINE.prepare(graphs)
    measured = [Measured(name, each, 1.0, agreement=1.0) for name, each in ROWS]
    choice = Choice("int8", {"quarter": "int8", "half": "int8", "full": "fp32"}, measured)
    kept.keep_choice(bundle, ENGINE, graphs, choice)
    assert kept.kept_choice(bundle, ENGINE) == choice
    run_here = kept.as_chosen(bundle, ENGINE, choice)
    assert run_here.default_precision() == MIXED
    chosen = run_here.graphs(MIXED)
    assert chosen.trunk == "graphs/int8-trunk.onnx" and chosen.tails["full"] == "graphs/fp32-tail-full.onnx"
    assert chosen.tails["half"] == "graphs/int8-tail-half.onnx"


def test_bench_and_eval_take_what_the_device_chose(
    jetson: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, and in the workers that time a graph each."""
    made = bundles.write_bundle(tmp_path / "bundle", engine="tensorrt", compiled_on_device=True)
    spoil(made, "fp32/half", "int8/half")
    opened = open_bundle(made.folder)
    opened = prepare_run(opened, "tensorrt", on_device.single_graphs(opened))
    entries = list_entries(opened, Job("", "tensorrt", 1, ""))
    assert [entry.bucket for entry in entries if entry.job.kind == "bucket" and entry.job.precision == "int8"] == [
        "quarter",
        "full",
    ]
    (tmp_path / MANIFEST).write_text(opened.manifest.model_dump_json())
    seen = {"bundle": str(made.folder), "manifest": str(tmp_path / MANIFEST)}
    timed, description = open_job(Job("auto", "tensorrt", 1, "", **seen, precision=opened.manifest.run or ""))
    assert description["engine"] == "tensorrt"
    assert timed(bundles.frame_with(9)) == "full" and timed(bundles.frame_with(6)) == "quarter"
    rows = evaluate(opened, Frames(9), cells(), engine="tensorrt").rows
    assert {(row.bucket, row.precision) for row in rows} == {("dense", "fp32")} | {
        (bucket, each) for bucket in ("quarter", "full", "auto") for each in opened.manifest.graphs
    }


def test_a_mixture_that_does_not_answer_is_not_kept(
    jetson: Jetson, edgeprune: Type, folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each precision agrees as a whole; what is decided of the mixture is what is kept."""
    seen: list[str] = []

    def revert(opened: Bundle, engine: object, choice: Choice) -> Choice:
        seen.extend([choice.trunk, *choice.tails.values()])
        return replace(choice, trunk="fp32", tails=dict.fromkeys(choice.tails, "fp32"))

    monkeypatch.setattr(on_device, "revert_failing_tails", revert)
    said = edgeprune("compile", folder, "--json")
    assert said.code == 0 and len(seen) == 4
    assert {row["precision"] for row in json.loads(said.out)["rows"] if row["chosen"]} == {"fp32"}
    choice = kept.kept_choice(bundle, ENGINE)
    assert choice and choice.run == "fp32"

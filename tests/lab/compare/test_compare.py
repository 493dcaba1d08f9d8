"""`compare`: rows trained alike from one dense checkpoint, scored and timed; resumable; bad plans refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.base.progress import shown_progress
from edgeprune.base.reading import ROOT
from edgeprune.base.statistics import Extremes, Latency
from edgeprune.cli.commands import edgeprune
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set, voc_colours
from edgeprune.lab.compare.comparison import Limits
from edgeprune.lab.compare.plan import load_plan, row_recipe
from edgeprune.lab.compare.run import (
    count_gmacs,
    run_comparison,
    score_in_torch,
    tabulate,
)
from edgeprune.lab.compare.spec import Plan, read_plan
from edgeprune.lab.compare.timing import TimedRow
from edgeprune.lab.compare.trained_row import PrecisionScore, TrainedRow
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.model.checkpoint import Card, save, shape_of
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.model.weight_files import find_weights
from edgeprune.pruning.methods import make_policy
from edgeprune.quantize.loading import read_card
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.validation import score
from tests import models
from tests.lab.compare.plans import PEER, SMALL_ROW, SVIT, write_plan
from tests.lab.peers.small import Small


def test_paths_in_a_plan_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    content = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    beside: dict[str, Any] = {key: Path(content[key]).name for key in ("recipe", "dense", "target")}
    beside["score"] = {"data": Path(content["score"]["data"]).name}
    (tmp_path / "moved.yaml").write_text(yaml.safe_dump(content | beside, sort_keys=False))
    plan = load_plan(f"{tmp_path.name}/moved.yaml")
    assert [Path(path).resolve() for path in (plan.recipe, plan.dense, plan.target, plan.score.data)] == [
        Path(path) for path in (content["recipe"], content["dense"], content["target"], content["score"]["data"])
    ]


@pytest.mark.slow
def test_a_smaller_network_is_a_row(tmp_path: Path) -> None:
    rows = {"dense": {}, "small": SMALL_ROW}
    plan, out = write_plan(tmp_path, rows=rows, controls=False), tmp_path / "out"
    answer = CliRunner().invoke(edgeprune, ["compare", str(plan), "--out", str(out), "--json"], standalone_mode=False)
    assert answer.exception is None, answer.exception
    dense, small = json.loads(answer.stdout)["rows"]
    assert small["gmacs"] < dense["gmacs"] and small["parameters"] < dense["parameters"]
    assert read_card(out / "rows/small/seed0/reference.safetensors").model.depth == 2


def test_each_row_is_trained_built_scored_and_timed_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(Small))
    all_rows = {"dense": {}, "svit": SVIT, "conv": {"peer": {"name": "small"}}}
    plan, out = write_plan(tmp_path, rows=all_rows, controls=False), tmp_path / "out"
    asked = ["compare", str(plan), "--out", str(out), "--json"]
    answer = CliRunner().invoke(edgeprune, asked, standalone_mode=False)
    assert answer.exception is None, answer.exception
    rows = {row["row"]: row for row in json.loads(answer.stdout)["rows"]}
    assert list(rows) == list(all_rows)
    assert rows["conv"]["policy"] == "small" and rows["conv"]["parameters"] < 2_000
    assert rows["dense"]["points_under_dense"] == 0 and rows["dense"]["speedup_vs_dense"] == 1
    assert 0 < rows["svit"]["token_share"] < rows["dense"]["token_share"] == 1
    assert rows["svit"]["gmacs"] < rows["dense"]["gmacs"]
    assert rows["dense"]["parameters"] < rows["svit"]["parameters"]
    assert all(row["latency_ms"]["p50"] > 0 and 0 <= row["miou"] <= 1 for row in rows.values())
    assert (out / "compare-onnxruntime.png").stat().st_size > 5000 and (out / "compare.csv").is_file()

    made = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/*/*")}
    scored = out / "rows/svit/seed0/row.json"
    before = scored.read_text()
    scored.unlink()  # stopped before it was scored: neither trained nor built again
    with shown_progress():
        again = CliRunner().invoke(edgeprune, asked[:-1], standalone_mode=False)
    assert again.exception is None, again.exception
    assert "svit: sparse: done before" in again.stderr
    assert all(f"{name}, seed 0: done before" in again.stderr for name in ("dense", "conv"))
    assert {path for path, when in made.items() if path.stat().st_mtime_ns != when} <= {scored}
    assert scored.read_text() == before
    assert "onnxruntime, fp32; means over seeds" in again.stdout and "points over dense of its latency" in again.stdout
    by_miou = json.loads(answer.stdout)["verdicts"][0]["at_points"]
    assert Path(by_miou["chosen"]["bundle"]) == out / "rows" / by_miou["chosen"]["row"] / "seed0" / "bundle"
    assert by_miou["under"]["points"] <= 0.5
    peers = [row for row in json.loads(answer.stdout)["rows"] if row["row"] == "conv"]
    assert peers and all(row["kind"] == "peer" and row["bundle"] is None for row in peers)  # no verb runs one


def test_a_peer_is_scored_in_each_engine() -> None:
    plan = Plan.model_validate(
        {"name": "p", "recipe": "r", "dense": "d", "score": {"data": "street"}, "precisions": ["int8"]}
        | {"rows": {"dense": {}, "conv": {"peer": {"name": "dabnet"}}}}
    )

    def scored(miou: float) -> dict[str, PrecisionScore]:
        return {"int8": PrecisionScore(miou, boundary_f=0.5, token_share=1.0, buckets={}, gmacs=1.0)}

    by_engine = {"onnxruntime": scored(0.58), "openvino": scored(0.59)}
    found = {
        ("dense", 0): TrainedRow({}, "dense", None, 7, scored(0.60)),
        ("conv", 0): TrainedRow({}, "dabnet", None, 7, by_engine["onnxruntime"], by_engine),
    }
    times = [
        TimedRow(row, "int8", engine, Latency(1.0, 1.0), 1.0, Extremes(1, 1), None, None)
        for row in plan.rows
        for engine in by_engine
    ]
    table = tabulate(plan, found, times)
    assert {row.row: row.kind for row in table} == {"dense": "dense", "conv": "peer"}
    rows = [(row.row, row.engine, row.miou) for row in table]
    assert rows[:2] == [("dense", "onnxruntime", 0.60), ("dense", "openvino", 0.60)]
    assert rows[2:] == [("conv", "onnxruntime", 0.58), ("conv", "openvino", 0.59)]


def test_multiply_adds_are_those_of_the_tokens() -> None:
    """Twelve D^2 for each token of a block and 2 N^2 D for its attention; gates come on top."""
    model = models.model(models.card("svit"))
    full, half = count_gmacs(model, [24] * 3), count_gmacs(model, [12] * 3)
    blocks = [12 * 192**2 * n + 2 * n**2 * 192 for n in (24, 12)]
    gates = 2 * 24 * (192 * 48 + 48 * 2)  # the full grid asks no gate after the first
    assert full - half == pytest.approx((3 * (blocks[0] - blocks[1]) - gates) / 1e9, rel=1e-6)


def test_differences_are_paired_by_seed() -> None:
    plan = Plan.model_validate(
        {"name": "p", "recipe": "r", "dense": "d", "score": {"data": "street"}, "seeds": [0, 1]}
        | {"rows": {"dense": {}, "svit": SVIT}}
    )

    def scored(policy: str, miou: float, small: float | None) -> TrainedRow:
        figures = PrecisionScore(miou, boundary_f=0.5, token_share=0.5, buckets={}, gmacs=1.0, small_things_miou=small)
        return TrainedRow({}, policy, None, 7, {"fp32": figures})

    found = {("dense", 0): scored("dense", 0.60, 0.2), ("dense", 1): scored("dense", 0.50, 0.3)}
    found |= {("svit", 0): scored("svit", 0.58, 0.1), ("svit", 1): scored("svit", 0.51, None)}
    dense, row = tabulate(plan, found, [])
    assert dense.kind == "dense" and dense.small_things_miou == pytest.approx(0.25)
    assert dense.by_seed == {"miou": [0.60, 0.50], "boundary_f": [0.5, 0.5], "small_things_miou": [0.2, 0.3]}
    assert row.kind == "pruned" and row.small_things_miou is None and "small_things_miou" not in row.by_seed
    assert row.miou == pytest.approx(0.545) and row.seeds == 2
    assert row.points_under_dense == pytest.approx(0.5)
    assert row.points_spread == pytest.approx((-1.0, 2.0))
    assert row.latency_ms is None and row.engine is None


def test_a_plan_whose_rows_have_all_seeds_is_written_as_before(tmp_path: Path) -> None:
    rows = load_plan(write_plan(tmp_path)).model_dump()["rows"]
    assert rows["dense"] == {"policy": None, "peer": None, "model": {}} and "seeds" not in rows["svit"]
    few = load_plan(write_plan(tmp_path, seeds=[0, 1], rows={"dense": {}, "svit": SVIT | {"seeds": 1}}, controls=False))
    assert few.model_dump()["rows"]["svit"]["seeds"] == 1
    assert [few.seeds_of(name) for name in few.rows] == [[0, 1], [0]]


def test_a_method_without_graphs_is_scored_at_the_models_input(tmp_path: Path) -> None:
    model = models.model(models.card("ats", depth=3))
    plan = load_plan(write_plan(tmp_path))
    data_set = load_data_set(plan.score.data)
    expected = score(model, data_set, open_split(data_set, "val"), None, None, boundaries=True)
    figures = PrecisionScore(
        expected.miou, expected.boundary_f, expected.tokens, {}, None, small_things_miou=expected.small_things_miou
    )
    assert score_in_torch(plan, model) == {"fp32": figures} and figures.small_things_miou is not None


def test_rows_of_instances_have_the_figures_of_things() -> None:
    plan = Plan.model_validate(
        {"name": "p", "recipe": "r", "dense": "d", "score": {"data": "street"}, "rows": {"dense": {}, "svit": SVIT}}
    )

    def scored(policy: str, **figures: float) -> TrainedRow:
        score = PrecisionScore(miou=None, boundary_f=None, token_share=0.5, buckets={}, gmacs=1.0, **figures)
        return TrainedRow({}, policy, None, 7, {"fp32": score})

    found = {("dense", 0): scored("dense", mask_ap=0.30, box_ap=0.35, mask_ap50=0.5, mask_ap_small=0.1)}
    found |= {("svit", 0): scored("svit", mask_ap=0.29, box_ap=0.36, mask_ap50=0.5)}
    dense, row = tabulate(plan, found, [])
    assert list(dense.by_seed) == ["mask_ap", "mask_ap50", "mask_ap_small", "box_ap"] and dense.miou is None
    assert (row.mask_ap, row.box_ap, row.mask_ap_small) == (0.29, 0.36, None)
    assert row.points_under_dense == pytest.approx(1.0)


def test_controls_are_added_where_a_plan_has_none(tmp_path: Path) -> None:
    """Half of the three blocks, three quarters of 64x96 in whole pairs of patches; neither beside one of its own."""
    added = load_plan(write_plan(tmp_path, rows={"dense": {}, "svit": SVIT})).rows
    assert list(added) == ["dense", "svit", "depth-1", "input-32x64"]
    assert added["input-32x64"].model == {"height": 32, "width": 64} and added["depth-1"].policy is None
    own = {"dense": {}, "svit": SVIT, "shallow": {"model": {"depth": 2}}}
    assert list(load_plan(write_plan(tmp_path, rows=own)).rows) == [*own, "input-32x64"]
    assert list(load_plan(write_plan(tmp_path)).rows) == ["dense", "svit", "small"]
    assert list(load_plan(write_plan(tmp_path, rows={"dense": {}, "svit": SVIT}, controls=False)).rows) == [
        "dense",
        "svit",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"svit": SVIT, "random": SVIT}}, "rows need one named 'dense'"),
        ({"rows": {"dense": SMALL_ROW, "svit": SVIT}}, "'dense' without settings"),
        ({"rows": {"dense": {}, "svit": SVIT | {"modle": {}}}}, "unknown key 'rows.svit.modle'.*did you mean 'model'"),
        ({"rows": {"dense": {}, "small": {"model": {"dept": 2}}}}, "row small: model: unknown key 'dept'"),
        ({"phases": {"policy": ["sparce"]}}, "has no phase 'sparce'; it has .*did you mean 'sparse'"),
        ({"phases": {"policy": ["sparse", "qat"]}}, "svit would see 16 frames in training and dense 8"),
        ({"precisions": ["fp16"]}, "precisions"),
        (
            {"rows": {"dense": {}, "c": {"peer": {"name": "dabnt"}}}},
            "row c: unknown peer 'dabnt'; choices: dabnet, .*mean",
        ),
        ({"rows": {"dense": {}, "c": PEER | SVIT}}, "row c: a peer has no tokens"),
        ({"rows": {"dense": {}, "c": PEER | {"model": {"depth": 2}}}}, "row c: a peer has no tokens and no blocks"),
        (
            {"rows": {"dense": {}, "c": {"peer": {"name": "dabnet", "phases": ["sparse"]}}}},
            "plan.yaml: row c: phase sparse is sparse: a peer has no tokens to prune",
        ),
        ({"rows": {"dense": {}, "c": PEER}, "engines": ["tensorrt"]}, "row c: unknown engine for a peer 'tensorrt'"),
        ({"rows": {"dense": {}, "c": PEER}, "target": "host"}, "row c: target host leaves the engine open"),
        ({"rows": {"dense": PEER}}, "'dense' without settings|at least 2"),
        ({"rows": {"dense": {"seeds": 1}, "svit": SVIT}}, "'dense' without settings"),
        (
            {"rows": {"dense": {}, "svit": SVIT | {"seeds": 3}}, "seeds": [0, 7]},
            r"row svit: seeds: 3, and .* 2: \[0, 7\]",
        ),
        ({"rows": {"dense": {}, "svit": SVIT | {"seeds": 0}}}, "rows.svit.seeds"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_bad_plans_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_plan(write_plan(tmp_path, **changes))


def test_a_peer_that_is_nothing_for_the_rows_input_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's own input, which no other row has."""

    def make(spec: ModelSpec) -> Small:
        if spec.height == 48:
            raise InputError("small is nothing for 48 rows")
        return Small(spec)

    monkeypatch.setitem(PEERS, "small", PeerKind(make))
    load_plan(write_plan(tmp_path, rows={"dense": {}, "c": {"peer": {"name": "small"}}}))
    low = {"peer": {"name": "small"}, "model": {"height": 48}}
    with pytest.raises(InputError, match="plan.yaml: row c: small is nothing for 48 rows"):
        load_plan(write_plan(tmp_path, rows={"dense": {}, "c": low}))


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("openvin", "unknown engine 'openvin'; .*did you mean 'openvino'"),
        ("tensorrt", "tensorrt can't run here: .*take it out"),
    ],
)
def test_an_engine_that_cannot_run_is_said_before_hours_of_training(tmp_path: Path, engine: str, message: str) -> None:
    plan = load_plan(write_plan(tmp_path, engines=["onnxruntime", engine]))
    with pytest.raises(InputError, match=message):
        run_comparison(plan, Limits(0.5), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"name": "stepp"}, "row last: unknown policy 'stepp'; .*did you mean 'step'"),
        ({"name": "combined", "options": {"gate": {}}}, "row last: policy combined: unknown key 'gate'.*'gates'"),
        ({"name": "combined", "options": {"levels": [[3, 0.5]]}}, "row last: policy combined: levels.0.0: .*found 3"),
        ({"name": "cts-svit", "options": {"merged": 2.0}}, "row last: policy cts-svit: merged"),
    ],
)
def test_a_policy_of_the_last_row_that_cannot_be_is_said_before_the_first_is_trained(
    tmp_path: Path, policy: dict[str, Any], message: str
) -> None:
    rows = {"dense": {}, "svit": SVIT, "last": {"policy": policy}}
    with pytest.raises(InputError, match=message):
        load_plan(write_plan(tmp_path, rows=rows))


def dense_of(plan: Plan, folder: Path) -> Path:
    """The dense checkpoint of a shipped plan. One that is no model of the zoo yet has a header alone here."""
    try:
        return find_weights(plan.dense)
    except InputError:
        spec, path = load_recipe(plan.recipe).model, folder / f"{plan.name}.safetensors"
        names = [f"class{index}" for index in range(spec.classes)]
        card = Card(name="dense", model=spec, policy=PolicySpec(), names=names, palette=voc_colours(spec.classes))
        save(path, card, {"pos_embed": torch.zeros(1)})
        return path


def test_shipped_plans_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [path.stem for path in (ROOT / "lab" / "compare" / "recipes").glob("*.yaml")]
    assert "street-instances" in names
    for name in names:
        dense = dense_of(read_plan(name)[1], tmp_path)
        monkeypatch.setattr("edgeprune.lab.compare.plan.find_weights", lambda _, dense=dense: dense)
        assert load_plan(name).name == name


def test_a_shipped_plan_names_what_is_made_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "street-traffic").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    _, plan = read_plan("street-instances")
    assert plan.score.data == load_recipe(plan.recipe).phases["sparse"].data[0].data == "out/street-traffic"


def test_the_plan_of_things_holds_every_method_against_its_controls_at_equal_tokens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dense = dense_of(read_plan("street-instances")[1], tmp_path)
    monkeypatch.setattr("edgeprune.lab.compare.plan.find_weights", lambda _: dense)
    plan = load_plan("street-instances")
    pruned = {name: row.policy for name, row in plan.rows.items() if row.policy}
    assert {policy.name for policy in pruned.values()} == {
        "svit", "dynaprune", "dynamicvit", "cts-svit", "random", "uniform",
    }  # fmt: skip
    assert {policy.options.get("pruned") for policy in pruned.values()} == {None, "removed", "preserved"}
    assert {name for name in plan.rows if len(plan.seeds_of(name)) == 3} == {"dense", "cts-svit"}
    assert plan.rows["depth-6"].model == {"depth": 6} and len(plan.rows) == len(pruned) + 3
    shape = shape_of(row_recipe(plan, "svit", 0).model)
    for name, policy in pruned.items():
        schedule = make_policy(policy, shape).schedule
        share = schedule.token_layers(schedule.target_counts) / (shape.depth * shape.grid[0] * shape.grid[1])
        assert share == pytest.approx(0.633, abs=0.006), name

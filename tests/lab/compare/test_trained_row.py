"""Rows of `compare`: what each is trained from, what one that was scored before is worth, which seeds it has."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from edgeprune.base.files import sha256
from edgeprune.lab.compare import run, trained_row
from edgeprune.lab.compare.comparison import Limits, TimingRun
from edgeprune.lab.compare.plan import load_plan, row_recipe
from edgeprune.lab.compare.run import run_comparison
from edgeprune.lab.compare.spec import PeerSpec, Plan, PlanRow, read_plan
from edgeprune.lab.compare.trained_row import PrecisionScore, TrainedRow
from edgeprune.lab.peers.training import OF_ANY_NETWORK, check_recipe_of_peer
from edgeprune.train.recipe_file import load_recipe
from tests import models
from tests.lab.compare.plans import SVIT, write_plan


def scored(policy: str, miou: float) -> TrainedRow:
    return TrainedRow({}, policy, None, 7, {"fp32": PrecisionScore(miou, 0.5, token_share=0.5, buckets={}, gmacs=1.0)})


def test_a_row_of_fewer_seeds_has_the_first_of_the_plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And its difference to dense is of those."""
    plan = Plan.model_validate(
        {"name": "p", "recipe": "r", "dense": "d", "score": {"data": "street"}, "seeds": [5, 3, 4]}
        | {"rows": {"dense": {}, "svit": SVIT | {"seeds": 1}, "dtop": SVIT | {"seeds": 2}}}
    )
    of_row = {"dense": [0.60, 0.50, 0.40], "svit": [0.58], "dtop": [0.57, 0.49]}
    trained: list[tuple[str, int]] = []

    def run_row(plan: Plan, name: str, seed: int, folder: Path, cache: Path | None) -> TrainedRow:
        assert folder == tmp_path / "rows" / name / f"seed{seed}"
        trained.append((name, seed))
        return scored(name, of_row[name][plan.seeds.index(seed)])

    bundle = SimpleNamespace(manifest=SimpleNamespace(target=SimpleNamespace(engine="onnxruntime")))
    monkeypatch.setattr(run, "run_row", run_row)
    monkeypatch.setattr(run, "open_bundle", lambda *_: bundle)
    monkeypatch.setattr(run, "time_rows", lambda *_: (TimingRun(1, 1, 1, {}, "no energy sensor"), []))
    dense, svit, dtop = run_comparison(plan, Limits(0.5), tmp_path).rows
    assert trained == [("dense", 5), ("svit", 5), ("dtop", 5), ("dense", 3), ("dtop", 3), ("dense", 4)]
    assert (dense.seeds, svit.seeds, dtop.seeds) == (3, 1, 2)
    assert dense.miou == pytest.approx(0.50) and svit.by_seed["miou"] == [0.58]
    assert svit.points_under_dense == pytest.approx(2.0) and dtop.points_under_dense == pytest.approx(2.0)
    assert dtop.points_spread == pytest.approx((1.0, 3.0))


def test_a_row_that_an_earlier_version_scored_is_scored_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row.json lacks the things that were scored, and their figure."""
    plan, folder = load_plan(write_plan(tmp_path)), tmp_path / "row"
    folder.mkdir()
    score = {"miou": 0.4, "boundary_f": 0.3, "token_share": 1.0, "buckets": {}, "gmacs": 1.0}
    made_of = {"checkpoint": sha256(Path(plan.dense)), "score": plan.score.model_dump()}
    old = {"made_of": made_of, "policy": "dense", "note": None, "parameters": 7, "precisions": {"fp32": score}}
    (folder / "row.json").write_text(json.dumps(old))
    new = PrecisionScore(0.5, 0.4, 1.0, {}, 1.0, small_things_miou=0.1)
    monkeypatch.setattr(run, "train", lambda *_: [Path(plan.dense)])
    monkeypatch.setattr(run, "score_graphs", lambda *_: {"fp32": new})
    row = run.run_row(plan, "dense", 0, folder, None)
    assert row.precisions == {"fp32": new} and "car" in row.made_of["things"]
    monkeypatch.setattr(run, "score_graphs", None)  # what is done is not done again
    assert run.run_row(plan, "dense", 0, folder, None) == row


def test_a_row_of_another_target_or_of_other_labels_is_scored_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = models.write_frames(tmp_path, 10)
    plan = load_plan(write_plan(tmp_path, score={"data": data, "split": "train"}))
    folder, scores = tmp_path / "row", iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(run, "train", lambda *_: [Path(plan.dense)])
    monkeypatch.setattr(run, "score_graphs", lambda *_: {"fp32": PrecisionScore(next(scores), 0.4, 1.0, {}, 1.0)})

    def miou() -> float | None:
        return run.run_row(plan, "dense", 0, folder, None).precisions["fp32"].miou

    assert (miou(), miou()) == (0.1, 0.1)
    target = yaml.safe_load(Path(plan.target).read_text())
    Path(plan.target).write_text(yaml.safe_dump(target | {"buckets": {"count": 2, "multiple": 4}}))
    assert (miou(), miou()) == (0.2, 0.2)
    label = tmp_path / "labels" / "0-003.png"
    Image.fromarray(np.arange(models.HEIGHT * models.WIDTH).reshape(models.HEIGHT, -1).astype(np.uint8) % 3).save(label)
    assert (miou(), miou()) == (0.3, 0.3)


def test_a_row_from_before_targets_were_noted_is_taken_where_its_bundle_is_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, checkpoint = load_plan(write_plan(tmp_path)), Path(read_plan(tmp_path / "plan.yaml")[1].dense)
    now, bundle = trained_row.made_of(plan, "dense", checkpoint), tmp_path / "bundle"
    before = {key: now[key] for key in ("checkpoint", "score", "things")}
    row = TrainedRow(before, "dense", None, 7, {})
    assert not trained_row.is_made_of(row, now, bundle)  # which target it was scored for, nobody knows
    assert trained_row.is_made_of(replace(row, note="no graphs"), now, bundle)
    built = {"checkpoint_sha256": now["checkpoint"], "target_sha256": now["target"]}
    manifest = SimpleNamespace(provenance=built, graphs={"fp32": None})
    bundle.mkdir()
    (bundle / "manifest.json").touch()
    monkeypatch.setattr(trained_row, "open_bundle", lambda _: SimpleNamespace(manifest=manifest))
    assert trained_row.is_made_of(row, now, bundle)
    assert trained_row.is_built_from(bundle, now["checkpoint"], now["target"], ["fp32"])
    assert not trained_row.is_built_from(bundle, now["checkpoint"], now["target"], ["int8"])
    built["target_sha256"] = "another"
    assert not trained_row.is_made_of(row, now, bundle)
    assert not trained_row.is_built_from(bundle, now["checkpoint"], now["target"])
    peers = plan.model_copy(update={"rows": {"dense": PlanRow(peer=PeerSpec(name="dabnet"))}})
    assert trained_row.is_made_of(row, trained_row.made_of(peers, "dense", checkpoint), bundle)  # made for engines


def test_rows_begin_with_the_dense_checkpoint_and_learn_from_it(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path, frames=8))
    sparse = row_recipe(plan, "svit", seed=3)
    assert sparse.seed == 3 and list(sparse.phases) == ["sparse"] and sparse.policy.options["keep"] == [0.5]
    phase = sparse.phases["sparse"]
    assert phase.start == phase.teacher == str(tmp_path / "dense.safetensors") and phase.frames == 8
    small = row_recipe(plan, "small", seed=0)
    assert (small.model.height, small.model.width, small.model.depth) == (48, 64, 2)
    assert small.policy.name == "dense" and list(small.phases) == ["reference"]


def test_a_peer_begins_with_its_own_weights_and_learns_from_the_dense_checkpoint(tmp_path: Path) -> None:
    rows = {"dense": {}, "conv": {"peer": {"name": "dabnet", "phases": ["dense"]}, "model": {"height": 48}}}
    plan = load_plan(write_plan(tmp_path, rows=rows))
    assert list(plan.rows) == ["dense", "conv", "depth-1", "input-32x64"]  # a peer is no dense ViT of a lower input
    recipe = row_recipe(plan, "conv", seed=2)
    assert list(recipe.phases) == ["dense"] and recipe.phases["dense"].start is None
    assert recipe.model.model_fields_set <= OF_ANY_NETWORK and recipe.model.height == 48
    check_recipe_of_peer(recipe)


def test_a_recipe_with_a_head_is_a_plan_whose_rows_have_that_of_dense(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path, frames=8))
    path = tmp_path / "with-head.yaml"
    recipe = load_recipe(plan.recipe).model_copy(update={"head": "zoo:street-tiny/qat"})
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    row = row_recipe(plan.model_copy(update={"recipe": str(path)}), "svit", seed=0)
    assert row.head is None and row.phases["sparse"].start == str(tmp_path / "dense.safetensors")

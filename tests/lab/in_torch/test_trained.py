"""Trained networks on a CPU: runners that are timed give what the models give that are scored, and results hold all of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import BucketFamily
from edgeprune.evaluate.tasks import METRICS
from edgeprune.export.family import buckets_of_frames, place_buckets
from edgeprune.export.graphs import DenseGraph, blank_frame
from edgeprune.lab.in_torch import networks, rounds, trained
from edgeprune.lab.in_torch.networks import ScoredFrames, family, list_networks
from edgeprune.lab.in_torch.rounds import Rounds
from edgeprune.lab.in_torch.runners import DIALECT, EAGER, MODES, WholeRunner
from edgeprune.lab.in_torch.training import blocks_from, check_alike, recipe_of_peers
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.model.checkpoint import save
from edgeprune.pruning.selection import select_all, select_top
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import calibrate_thresholds, write_calib
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.validation import score
from tests import models
from tests.lab.in_torch.replays import TenWatts
from tests.lab.peers import small

CPU = torch.device("cpu")
MEASURES = METRICS["semantic"].brief


def recipe(folder: Path, **changes: Any) -> Recipe:
    """A start, then `sparse` and `dense` from it, one step each; scored on four scenes."""
    base = models.recipe(folder).model_dump(mode="json", exclude_unset=True)
    phase = base["phases"]["dense"] | {"frames": 2}
    taught = {"start": "first", "distill": 1.0, "teacher": "first"}
    phases = {"first": phase, "sparse": phase | taught | {"kind": "sparse"}, "dense": phase | taught}
    scored = base["calibration"] | {"split": "val", "frames": 4, "times": 0}
    return Recipe.model_validate(base | {"phases": phases, "validation": scored} | changes)


@pytest.fixture
def frames(tmp_path: Path) -> ScoredFrames:
    return ScoredFrames.of(recipe(tmp_path), 4, CPU)


def test_the_dense_runner_scores_what_its_model_scores(frames: ScoredFrames) -> None:
    model = models.model(models.card("svit"))
    run = WholeRunner(DenseGraph(model, model.spec.depth, DIALECT), blank_frame(model), MODES[EAGER])
    with torch.inference_mode():
        found = frames.score(run)
    expected = score(model, frames.data_set, frames.samples, None, select_all, boundaries=True)  # type: ignore[arg-type]
    assert found == pytest.approx({measure: getattr(expected, measure) for measure in MEASURES}, abs=1e-6)


def test_each_bucket_gives_the_models_labels_and_auto_takes_the_one_that_holds(frames: ScoredFrames) -> None:
    """Held against the training form, which a phase scores, with as many tokens as the bucket has."""
    model, spec = models.model(models.card("svit")), BucketFamily(count=3, multiple=4)
    images_F3HW = torch.stack(frames.levels).permute(0, 3, 1, 2)
    thresholds, occupancy_FG = calibrate_thresholds(model, images_F3HW)
    calib = Calib(
        model="tiny", data="street", frames=[], thresholds={"fp32": thresholds}, occupancy={"fp32": occupancy_FG}
    )
    schedule = model.policy.schedule
    buckets = place_buckets(schedule, spec, occupancy_FG)
    with torch.inference_mode():
        *fixed, auto = family(model, calib, spec, frames, [EAGER])
        labels = {each.about["graph"]: [each.run(frame)[0] for frame in frames.levels] for each in fixed}
        for bucket in buckets:
            raw = model(images_F3HW.float(), select_top(schedule.candidates(bucket.counts))).raw
            same = torch.stack(labels[bucket.name]) == raw.argmax(dim=1)
            assert same.float().mean() > 0.999  # but for ties
        chosen = [buckets[number].name for number in buckets_of_frames(schedule, buckets, occupancy_FG)]
        assert len(buckets) > 1 and auto.about["buckets"] == Counter(chosen)
        answers = [auto.run(frame)[0] for frame in frames.levels]
    assert all(
        answer.equal(labels[name][frame]) for frame, (name, answer) in enumerate(zip(chosen, answers, strict=True))
    )
    share = {bucket.name: model.share_of_dense(bucket) for bucket in buckets}
    assert auto.about["token_share"] == pytest.approx(sum(share[name] for name in chosen) / len(chosen))


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All of it at the size of a test, in the folder `out`."""
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))
    monkeypatch.setattr(rounds, "IDLE_S", 0.01)
    return trained.run(recipe(tmp_path), ["small"], tmp_path / "out", tmp_path / "scenes", Rounds(2, 4, 0), TenWatts())


def test_results_hold_each_network(trial: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {(row["network"], row["graph"]): row for row in trial["rows"]}
    assert next(iter(rows)) == ("dense", "whole") and ("small", "whole") in rows and ("sparse", "full") in rows
    for key in (("dense", "whole"), ("small", "whole"), ("sparse", "auto")):
        assert all(0 <= rows[key][measure] <= 1 for measure in MEASURES)
    assert all(
        row["mode"] == EAGER and row["latency_ms"]["p50"] > 0 and row["mj_per_frame"] > 0 for row in trial["rows"]
    )
    assert sum(rows["sparse", "auto"]["buckets"].values()) == trial["frames"] == 4
    assert [(Path(each["run"]).name, each["phase"], each["steps"]) for each in trial["training"]] == [
        ("vit", "first", 1), ("vit", "sparse", 1), ("vit", "dense", 1), ("small", "first", 1), ("small", "dense", 1),
    ]  # fmt: skip
    out = tmp_path / "out"
    assert json.loads((out / "trained.json").read_text()) == trial
    assert (out / "trained.csv").read_text().count("\n") == 1 + len(rows)
    trained.main([str(out / "trained.json")], standalone_mode=False)
    assert capsys.readouterr().out == (out / "trained.txt").read_text()


def test_results_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="a.json is shown as it is; leave --rounds out"):
        trained.main([str(path), "--rounds", "2"], standalone_mode=False)
    with pytest.raises(InputError, match="has no rows, gpu.*name the trained.json"):
        trained.main([str(path)], standalone_mode=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sees no CUDA GPU here") as refused:
        trained.main(["--out", str(tmp_path / "out")], standalone_mode=False)
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_the_schedule_that_ships() -> None:
    found = load_recipe(trained.OWN)
    check_alike(found)
    peers = recipe_of_peers(found, Path("vit"))
    assert [(name, phase.start, phase.lr) for name, phase in peers.phases.items()] == [
        ("windows", None, 1e-3), ("whole", "windows", 5e-4), ("dense", "whole", 5e-4),
    ]  # fmt: skip
    assert peers.phases["dense"].teacher == "vit/whole.safetensors"
    found.phases["dense"].teacher = ["whole", "other.safetensors"]
    assert recipe_of_peers(found, Path("vit")).phases["dense"].teachers == (
        "vit/whole.safetensors",
        "other.safetensors",
    )
    with pytest.raises(
        InputError, match="teacher of phase sparse is whole, of dense whole, other.safetensors; dense gets"
    ):
        check_alike(found)


def test_a_policy_that_learns_alone_before_it_changes_no_start() -> None:
    # `sparse` follows `cells`, of kind policy, and that `whole`, which `dense` starts from
    found = load_recipe("street-hd")
    check_alike(found)
    assert found.start_of("sparse") == "cells" and blocks_from(found, "sparse") == found.start_of("dense") == "whole"


@pytest.mark.parametrize(
    ("phase", "changes", "message"),
    [
        ("sparse", {"frames": 4}, "frames of phase sparse is 4, of dense 2; dense gets what sparse gets"),
        ("dense", {"start": "sparse"}, "start of phase sparse is first, of dense sparse"),
        ("dense", {"teacher": "sparse"}, "teacher of phase sparse is first"),
        ("sparse", {"kind": "qat"}, "no phase 'sparse' of that kind"),
        ("sparse", {"policy": {"name": "ats", "options": {"first": 1}}}, "policy ats has no graph"),
    ],
)
def test_what_would_not_be_trained_alike_is_refused(
    tmp_path: Path, phase: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_alike(models.changed(recipe(tmp_path), phase, **changes))


def test_a_recipe_of_things_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    found.model.task = "instance"
    with pytest.raises(InputError, match="recipe tiny is of task instance, and runners here give labels"):
        trained.run(found, [], tmp_path / "out", tmp_path / "scenes", Rounds(2, 4, 0), TenWatts())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["calibration", "validation"])
def test_what_is_scored_must_be_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=f"has no {key}"):
        check_alike(recipe(tmp_path, **{key: None}))


@pytest.mark.parametrize(("compiled", "of_buckets"), [(False, ["CUDA graph"]), (True, ["CUDA graph", "torch.compile"])])
def test_modes_on_a_gpu(
    compiled: bool, of_buckets: list[str], frames: ScoredFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be captured there, run here as it is."""
    for name in ("dense", "sparse"):
        described = models.card("svit" if name == "sparse" else "dense")
        save(tmp_path / f"{name}.safetensors", described, models.model(described).state_dict())
    calib = Calib(
        model="tiny", data="street", frames=["a"], thresholds={"fp32": [0.0] * 3}, occupancy={"fp32": [[0.5] * 3]}
    )
    write_calib(tmp_path / "calib-sparse.yaml", calib)
    for mode in MODES:
        monkeypatch.setitem(MODES, mode, lambda step: step)
    monkeypatch.setattr(networks, "modes_of", lambda device: list(MODES))
    checkpoints = {name: tmp_path / f"{name}.safetensors" for name in ("dense", "sparse")}
    with torch.inference_mode():
        about = [each.about for each in list_networks(checkpoints, frames, CPU, torch.float32, compiled)]
    assert [row["mode"] for row in about if row["network"] == "dense"] == ["CUDA graph", "torch.compile", "eager"]
    assert [row["mode"] for row in about if row["graph"] == "auto"] == of_buckets
    assert [row["mode"] for row in about if "miou" in row] == ["CUDA graph", "CUDA graph"]  # dense, auto

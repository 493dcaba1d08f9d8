"""By number of labels: both networks see equal images and equally many steps; what is done is not trained again."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file

from edgeprune.base.errors import InputError
from edgeprune.lab.labels import study
from edgeprune.lab.labels.__main__ import main
from edgeprune.lab.labels.results import LabelsRow, tabulate
from edgeprune.lab.labels.study import Contestant, RunScore, contestants, count_images, run_one, with_budget
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.model.card import read_header
from edgeprune.train.leave_out import leave_out, reported
from edgeprune.train.recipe import Recipe
from edgeprune.train.validation import Score
from tests import models
from tests.lab.peers import small
from tests.model.vits import vit


@pytest.fixture(autouse=True)
def a_small_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))


def recipe(folder: Path) -> Recipe:
    validation = {"data": models.write_street(folder), "split": "val", "frames": 2}
    return models.recipe(folder, validation=validation)


def test_both_are_trained_alike_and_what_is_done_is_printed_again(tmp_path: Path) -> None:
    save_file(vit(), tmp_path / "vit.safetensors")
    content = recipe(tmp_path).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    typed = [
        str(tmp_path / "recipe.yaml"),
        "--weights",
        str(tmp_path / "vit.safetensors"),
        "--peer",
        "small",
        "--out",
        str(out),
    ]
    typed += ["--images", "3", "--seed", "4", "--steps", "2", "--batch", "2"]
    said = CliRunner().invoke(main, typed, standalone_mode=False)
    assert said.exception is None, said.exception
    shown = [line.split()[:3] for line in said.stdout.splitlines()[2:]]
    assert shown == [["3", "vit", "1"], ["3", "small", "1"]]
    for name, network in (("vit", None), ("small", "small")):
        card, _ = read_header(out / "3-images" / name / "seed4" / "dense.safetensors", network)
        made = card.provenance["recipe"]
        assert (made["frames"], made["batch"], made["data"][0]["images"]) == (4, 2, 3)
    with (out / "labels.csv").open() as file:
        assert [row["images"] for row in csv.DictReader(file)] == ["3", "3"]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/*")}
    again = CliRunner().invoke(main, typed, standalone_mode=False)
    assert again.stdout == said.stdout and before == {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/*")}
    assert set(json.loads((out / "labels.json").read_text())["recipes"]) == {"vit", "small"}


def test_points_are_paired_by_seed(tmp_path: Path) -> None:
    two = [Contestant("vit", recipe(tmp_path)), Contestant("small", recipe(tmp_path), "small")]
    miou = {("vit", 0): 0.5, ("vit", 1): 0.6, ("small", 0): 0.45, ("small", 1): 0.4}
    found = {(name, 25, seed): RunScore({}, value, None, 0.5) for (name, seed), value in miou.items()}
    ours, theirs = tabulate(found, two, [25], [0, 1])
    assert isinstance(ours, LabelsRow) and ours.spread == (0.5, 0.6) and ours.by_seed == [0.5, 0.6]
    assert ours.points_over_peer == pytest.approx(12.5) and ours.points_spread == pytest.approx((5, 20))
    assert theirs.points_over_peer is None and theirs.boundary_f is None and theirs.small_things_miou == 0.5


def test_a_peer_learns_as_its_own_recipe_says_what_the_other_sees(tmp_path: Path) -> None:
    ours = with_budget(recipe(tmp_path), "hub:timm/a-vit", 5, 4)
    own = small.recipe(tmp_path, phase={"lr": 3e-3, "crop_height": 32, "crop_width": 32})
    first, second = contestants(ours, "small", own)
    (phase,) = second.recipe.phases.values()
    assert (first.name, second.name) == ("a-vit", "small") and (phase.frames, phase.batch, phase.lr) == (20, 4, 3e-3)
    assert phase.crop is None and second.recipe.validation == ours.validation
    assert ours.validation is not None and ours.validation.times == 0


def test_a_drive_that_is_left_out_is_scored_and_another_part_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def score(model: Any, data_set: Any, samples: Any, frames: Any, select: Any, boundaries: bool) -> Score:
        scored.extend(samples.names)
        return Score(0.5, [0.5], 1.0)

    monkeypatch.setattr(study, "score", score)
    data = models.write_frames(tmp_path, 20)
    validation = {"data": data, "split": "train", "hold_out": 0.2, "keep": "best", "times": 1, "frames": 2}
    own = small.recipe(tmp_path, phase={"data": [{"data": data}], "frames": 2}, validation=validation)
    left = leave_out(own, f"{data}:1-*")
    run_one(Contestant("small", left, "small"), 2, 0, reported(left, f"{data}:1-*"), tmp_path / "out")
    assert scored == [f"1-{index:03d}" for index in range(10, 20)]


def test_the_command_refuses_to_score_what_chooses(tmp_path: Path) -> None:
    path, data = tmp_path / "recipe.yaml", models.write_street(tmp_path)
    validation = {"data": data, "split": "train", "hold_out": 0.25, "keep": "best"}
    content = models.recipe(tmp_path, validation=validation).model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(content))
    typed = [str(path), "--weights", "vit.safetensors", "--peer", "small", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="keep: best chooses by the frames that would be scored"):
        CliRunner().invoke(main, typed, catch_exceptions=False)


def test_what_the_study_does_not_take(tmp_path: Path) -> None:
    base = recipe(tmp_path)
    ours = with_budget(base, "a.safetensors", 2, 2)
    assert count_images(ours, ["all", "3", "8", "3"]) == [3, 8]
    with pytest.raises(InputError, match="images is 9, and data set .* has 8 frames"):
        count_images(ours, ["2", "9"])
    with pytest.raises(InputError, match="--images '0': expected a number from 1 on, or all"):
        count_images(ours, ["0"])
    with pytest.raises(InputError, match="first phase is dense, on one"):
        with_budget(base.model_copy(update={"phases": {"sparse": base.phases["sparse"]}}), "a.safetensors", 2, 2)
    things = base.model_copy(update={"model": base.model.model_copy(update={"task": "instance"})})
    with pytest.raises(InputError, match="recipe tiny is of task instance, and this study scores mIoU of labels"):
        with_budget(things, "a.safetensors", 2, 2)

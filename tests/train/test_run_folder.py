"""What a run's folder says of it beside its checkpoints."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.reading import parse, read_yaml
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.run_folder import FIGURES, git_state, write_metrics
from tests import models
from tests.train.summary_writer import Writer, writing


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A short training with a validation, and events of it."""
    folder = tmp_path_factory.mktemp("run")
    recipe = models.recipe(folder)
    content = recipe.model_dump(mode="json")
    del content["phases"]["qat"]
    data = recipe.phases["dense"].data[0].data
    content["validation"] = {"data": data, "split": "val", "frames": 2, "times": 2}
    recipe = Recipe.model_validate(content | {"tensorboard": True})
    with writing():
        train(recipe, folder / "out")
    return recipe, folder / "out"


def test_the_recipe_as_it_ran_is_a_recipe(run: tuple[Recipe, Path]) -> None:
    recipe, out = run
    assert parse(Recipe, read_yaml(out / "recipe.yaml", "recipe"), "it") == recipe


def test_the_environment_is_told(run: tuple[Recipe, Path]) -> None:
    about = json.loads((run[1] / "environment.json").read_text())
    assert about["command"] == sys.argv  # whatever called it: `edgeprune`, or Python
    assert about["device"].startswith("cpu") and about["packages"]["torch"] and about["machine"]["cores"] >= 1
    assert about["git"].keys() == {"edgeprune", "folder"}


def test_metrics_are_the_histories(run: tuple[Recipe, Path]) -> None:
    recipe, out = run
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = [(name, row) for name in recipe.phases for row in json.loads((out / f"{name}.json").read_text())]
    assert [(row["phase"], int(row["step"]), float(row["loss"])) for row in rows] == [
        (name, row["step"], row["loss"]) for name, row in told
    ]
    assert [bool(row["keep"]) for row in rows] == [row["phase"] == "sparse" for row in rows]
    assert sum(bool(row["miou"]) for row in rows) == 4


def test_a_phase_that_goes_on_replaces_its_rows_alone(run: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, out = run
    (tmp_path / "dense.json").write_text((out / "dense.json").read_text())
    for count in (2, 1):  # as after a stop behind the last state
        rows = [{"step": step, "loss": 1.0} for step in range(count)]
        write_metrics(recipe, tmp_path, "sparse", rows)
        with (tmp_path / "metrics.csv").open() as file:
            phases = [row["phase"] for row in csv.DictReader(file)]
        assert phases.count("sparse") == count and phases.count("dense") == 2


def test_pictures_show_curves_labels_and_tokens(run: tuple[Recipe, Path]) -> None:
    _, out = run
    assert np.asarray(Image.open(out / "curves.png")).std() > 5
    dense, sparse = (Image.open(out / f"samples-{name}.png") for name in ("dense", "sparse"))
    assert sparse.width > dense.width and sparse.height == dense.height  # the tokens stand beside the classes


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_events_are_the_histories_and_the_picture(run: tuple[Recipe, Path], name: str) -> None:
    _, out = run
    *points, (tag, picture_HW3, step) = Writer.events[str(out / "tensorboard" / name)]
    rows = json.loads((out / f"{name}.json").read_text())
    assert len(rows) == 2 and {"loss", "lr", "seconds", "miou"} < rows[0].keys()
    assert points == [(key, value, row["step"]) for row in rows for key, value in row.items() if key != "step"]
    assert (tag, step) == ("samples", rows[-1]["step"])
    assert np.array_equal(picture_HW3, np.asarray(Image.open(out / f"samples-{name}.png")))


def test_git_tells_of_a_repository_that_has_the_files(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("1")
    assert git_state(tmp_path) is None  # nothing is committed
    git("add", "a")
    git("commit", "-m", "a")
    told = git_state(tmp_path)
    assert told and len(told["commit"]) == 40 and told["changed"] is False
    (tmp_path / "a").write_text("2")
    assert (git_state(tmp_path) or {})["changed"] is True
    assert git_state(tmp_path, "b") is None  # somebody else's repository


def test_every_task_has_its_figure_in_the_curves() -> None:
    assert FIGURES == {"miou": "mIoU", "mask_ap": "mask AP"}

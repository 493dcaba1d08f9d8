"""`report`: runs side by side."""

import json
from pathlib import Path

import pytest
import yaml

from edgeprune.base.errors import InputError
from edgeprune.lab.report import differing_keys, read_run
from tests import models
from tests.cli.conftest import Type, edgeprune
from tests.models import changed

__all__ = ["edgeprune"]


def write_run(folder: Path, lr: float, scores: list[float], figure: str = "miou", task: str = "semantic") -> Path:
    """A folder as `train` leaves it, without its checkpoints; `figure`: what its validations are called."""
    folder.mkdir()
    recipe = changed(models.recipe(folder), "dense", lr=lr)
    recipe.model.task = task
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    rows = [
        {"step": 10 * (index + 1), "loss": 2.0 - index, "lr": lr, "seconds": 60.0 * (index + 1), figure: score}
        for index, score in enumerate(scores)
    ]
    (folder / "dense.json").write_text(json.dumps(rows))
    return folder


def test_runs_are_told_by_what_they_came_to_and_where_they_differ(edgeprune: Type, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 1e-3, [0.3, 0.5, 0.4]), write_run(tmp_path / "b", 2e-3, [0.2])]
    said = edgeprune("report", *runs, "--json")
    content = json.loads(said.out)
    assert [(row["run"], row["steps"], row["loss"], row["miou"], row["best_miou"]) for row in content["phases"]] == [
        (str(runs[0]), 30, 0.0, 0.4, 0.5),
        (str(runs[1]), 10, 2.0, 0.2, 0.2),
    ]
    assert [row["minutes"] for row in content["phases"]] == [3.0, 1.0]
    assert content["differing"]["phases.dense.lr"] == [1e-3, 2e-3]
    assert edgeprune("report", *runs, "--out", tmp_path / "c.png").code == 0
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_a_run_is_told_by_the_figure_of_its_task(edgeprune: Type, tmp_path: Path) -> None:
    things = write_run(tmp_path / "a", 1e-3, [0.25, 0.125], "mask_ap", "instance")
    phase, *_ = json.loads(edgeprune("report", things, "--json").out)["phases"]
    assert (phase["mask_ap"], phase["best_mask_ap"]) == (0.125, 0.25) and "miou" not in phase
    header, _, row = edgeprune("report", things).out.splitlines()
    assert header.split() == ["run", "phase", "steps", "loss", "mask", "AP", "best", "keep", "minutes"]
    assert row.split()[4:6] == ["0.1250", "0.2500"]
    labels = write_run(tmp_path / "b", 1e-3, [0.5])
    header, _, *rows = edgeprune("report", things, labels).out.splitlines()
    assert header.split()[4:] == ["mask", "AP", "best", "mIoU", "best", "keep", "minutes"]
    assert [row.split()[4:8] for row in rows[:2]] == [["0.1250", "0.2500", "-", "-"], ["-", "-", "0.5000", "0.5000"]]


def test_one_key_of_one_item_of_a_list_is_told(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, 1e-3, [0.1])) for name in "ab"]
    runs[1].recipe.phases["sparse"].data[0].share = 0.5
    assert {key for key in differing_keys(runs) if "share" in key} == {"phases.sparse.data.0.share"}


def test_runs_at_two_depths_and_of_an_earlier_version_name_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe of an earlier version names them as they were typed, one of now relative to its own folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "b").mkdir()
    runs = []
    for folder, named in (("a", "../mine.yaml"), ("b/c", "../../mine.yaml"), ("old", "mine.yaml")):
        path = write_run(tmp_path / folder, 1e-3, [0.1]) / "recipe.yaml"
        content = yaml.safe_load(path.read_text())
        content["phases"]["dense"] |= {"data": [{"data": named}], "teacher": ["first", named], "start": named}
        path.write_text(yaml.safe_dump(content))
        runs.append(read_run(Path(folder)))
    assert {key for key in differing_keys(runs) if "dense" in key} == set()
    assert runs[1].recipe.phases["dense"].data[0].data == "mine.yaml"


def test_what_is_no_run_is_refused(edgeprune: Type, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run: it has no recipe.yaml; name a folder"):
        read_run(tmp_path)
    run = write_run(tmp_path / "a", 1e-3, [])
    with pytest.raises(InputError, match=r"no phase is done yet; type `edgeprune train .*recipe.yaml` to go on"):
        read_run(run)
    (run / "dense.json").write_text("[{")
    with pytest.raises(InputError, match="history .* is damaged"):
        read_run(run)
    said = edgeprune("report", run, run)
    assert said.code == 2 and "is there twice" in said.err

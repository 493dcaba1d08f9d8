"""The best of a phase's validations, on a part of train that is held out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.held_out import HeldOut, held_out_names
from edgeprune.data.selection import FrameSelection
from edgeprune.model.card import read_header
from edgeprune.train.backend import OneProcess
from edgeprune.train.batches import open_mix
from edgeprune.train.leave_out import leave_out
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Mix, Recipe, Validation
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.trainer import Trainer
from edgeprune.train.validation import open_validation
from tests import models


class Named:
    """So many samples of which the names are looked at alone."""

    def __init__(self, count: int):
        self.names = [f"{index:03d}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.names)


def test_what_is_held_out_are_stretches_of_neighbours() -> None:
    held_out = [int(name) for name in held_out_names(Named(200), 0.1)]  # type: ignore[arg-type]
    assert held_out == [*range(22, 27), *range(72, 77), *range(122, 127), *range(172, 177)]
    assert held_out_names(Named(9), 0.1) == ["004"]  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing can be held out of a split of 1 frame"):
        held_out_names(Named(1), 0.1)  # type: ignore[arg-type]


def test_what_is_held_out_is_scored_and_not_trained_on(tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    spec = Validation(data=data, split="train", hold_out=0.25)
    assert spec.held_out is not None
    scored = open_validation(spec)[1].names
    (left,) = open_mix([Mix(data=data)], None, spec.held_out)[1]
    assert (scored, left.names) == (["street-6", "street-7"], [f"street-{index}" for index in range(6)])
    assert left[5].name == "street-5"
    _, (val,) = open_mix([Mix(data=data, split="val")], None, spec.held_out)
    assert len(val) == 4


def test_of_files_what_a_selection_takes_is_held_out(tmp_path: Path) -> None:
    of = FrameSelection(data=models.write_frames(tmp_path, 40), exclude=["3-*"])
    held_out = HeldOut(of, 0.2)
    part = held_out.take(open_split(load_data_set(of.data), "train", exclude=of.exclude))
    taken = part.names
    assert len(taken) == 6 and not any(name.startswith("3-") for name in taken)
    _, (left,) = open_mix([Mix(data=of.data)], None, held_out)
    assert sorted([*taken, *left.names]) == sorted({*taken, *left.names}) and len(left) == 34
    assert left[0].name == left.names[0] and part[5].name == taken[5]


# ------------------------------------------------------------------------------------------------ keep and patience


def recipe_with(folder: Path, **validation: Any) -> Recipe:
    spec = {"data": models.write_street(folder), "split": "train", "hold_out": 0.25, "frames": 2} | validation
    return models.recipe(folder, validation=spec)


def scored_as(monkeypatch: pytest.MonkeyPatch, *scores: float) -> list[torch.Tensor]:
    """Validations give these scores; the positions of the model at each are kept."""
    left, seen = list(scores), []

    def score(self: Semantic, model: torch.nn.Module) -> dict[str, float]:
        seen.append(model.state_dict()["pos_embed"].clone())
        return {"miou": left.pop(0)}

    monkeypatch.setattr(Semantic, "score", score)
    return seen


def trained(recipe: Recipe, out: Path) -> dict[str, Any]:
    trainer = Trainer(PhaseRun(recipe, "dense", out), OneProcess("cpu", False), [1 / 11] * 11, None)
    trainer.train()
    provenance = read_header(out / "dense.safetensors")[0].provenance
    return provenance | {"positions": trainer.model.state_dict()["pos_embed"]}


def test_the_best_weights_are_handed_on_or_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scored_as(monkeypatch, 0.1, 0.4, 0.3, 0.4)
    made = trained(recipe_with(tmp_path, keep="best"), tmp_path)
    assert made["best"] == {"step": 2, "scores": {"miou": 0.4}, "since": 2}
    assert torch.equal(made["positions"], seen[1]) and made["validation"]["hold_out"] == 0.25
    seen = scored_as(monkeypatch, 0.1, 0.4, 0.3, 0.4)
    made = trained(recipe_with(tmp_path), tmp_path / "last")
    assert "best" not in made and torch.equal(made["positions"], seen[3])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_phase_ends_when_patience_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], keep: str
) -> None:
    seen = scored_as(monkeypatch, 0.4, 0.3, 0.2)
    made = trained(recipe_with(tmp_path, keep=keep, patience=2), tmp_path)
    assert "dense: ends at step 3 of 4: none of the last 2 validations was the best" in said
    assert made["steps"] == 3 and torch.equal(made["positions"], seen[0 if keep == "best" else 2])


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        (
            {"split": "val", "hold_out": None, "keep": "best"},
            "validation: keep: best chooses by the split val, .*; set split: train and hold_out: 0.1",
        ),
        ({"split": "val", "hold_out": None, "patience": 2}, "validation: patience chooses by the split val"),
        ({"split": "test", "hold_out": None, "keep": "best"}, "chooses by the split test"),
        ({"split": "val"}, "hold_out is a part of the split train, not of val; set split: train"),
        ({"keep": "best", "times": 0}, "times is 0, so there is nothing to choose by"),
        (
            {"hold_out": None, "keep": "best"},
            "phase dense trains on 8 of the frames that validation chooses by, street-0",
        ),
    ],
)
def test_nothing_is_chosen_by_what_is_reported_or_trained_on(
    tmp_path: Path, validation: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(recipe_with(tmp_path, **validation), tmp_path / "out")


def test_a_drive_that_is_left_out_does_not_choose(tmp_path: Path) -> None:
    """It is what is reported; the part that is held out is of the other drives."""
    recipe = recipe_with(tmp_path, keep="best")
    assert recipe.validation is not None
    left = leave_out(recipe, f"{recipe.validation.data}:a*")
    assert left.validation == recipe.validation.model_copy(update={"exclude": ["a*"]})
    assert left.phases["dense"].data[0].exclude == ["a*"]


def test_a_checkpoint_that_was_chosen_in_another_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_as(monkeypatch, *[0.5] * 8)
    recipe = recipe_with(tmp_path)
    train(recipe, tmp_path / "out", only=["dense"])
    with pytest.raises(InputError, match="was trained with validation None, the recipe says {'data':"):
        train(recipe_with(tmp_path, keep="best"), tmp_path / "out", only=["dense"])

"""What a recipe is refused for, before the first step of its first phase."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import save
from edgeprune.quantize.loading import make_model
from edgeprune.train.checks import check_phase
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from tests import models
from tests.models import changed


def folders(tmp_path: Path, stray: int | None = None) -> str:
    """A data set of images and labels on disk, one label with the id `stray`."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        image_HW3, label_HW = models.scene(index)
        label_HW = label_HW.copy()
        if stray is not None and index == 1:
            label_HW[0, 0] = stray
        Image.fromarray(image_HW3).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(label_HW).save(tmp_path / "labels" / f"{index}.png")
    content = yaml.safe_load(Path(models.write_street(tmp_path)).read_text())
    split = {"images": "images", "labels": "labels"}
    content |= {"name": "folders", "path": ".", "train": split, "val": split}
    del content["test"]
    path = tmp_path / "folders.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("where", ["dense", "qat", "validation"])
def test_a_label_out_of_range_is_refused_before_any_training(tmp_path: Path, where: str, said: list[str]) -> None:
    data = folders(tmp_path, stray=77)
    recipe = models.recipe(tmp_path)
    if where == "validation":
        recipe = models.recipe(tmp_path, validation={"data": data})
    else:
        recipe = changed(recipe, where, data=[{"data": data}])
    said.clear()
    with pytest.raises(InputError, match=r"labels/1.png has id 77 .*expected 0 to 10, or 11 \(ignore\)"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not any("steps of" in line for line in said)


def test_labels_of_one_class_are_refused_before_any_training(tmp_path: Path) -> None:
    data = folders(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        Image.new("L", (models.WIDTH, models.HEIGHT), 3).save(path)
    with pytest.raises(InputError, match="phase dense: its labels hold no more than one class"):
        train(changed(models.recipe(tmp_path), "dense", data=[{"data": data}]), tmp_path / "out")


def test_trains_on_folders_without_a_calibration(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path, calibration=None)
    content = recipe.model_dump()
    content["phases"] = {
        "dense": content["phases"]["dense"] | {"data": [{"data": folders(tmp_path)}], "frames": 2, "crop_height": 48,
                                               "crop_width": 64, "class_balance": 0.5, "bf16": None},
    }  # fmt: skip
    del content["phases"]["dense"]["bf16"]
    train(Recipe.model_validate(content), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()} - models.OF_A_RUN
    assert names == {"dense.json", "dense.safetensors"}


@pytest.mark.parametrize(
    ("phase", "changes", "words"),
    [
        ("sparse", {"teacher": None}, "phase sparse: distill needs `teacher`, an earlier phase"),
        ("dense", {"distill_tokens": 1.0}, "phase dense: distill_tokens needs `teacher`, an earlier phase"),
        (
            "sparse",
            {"teacher": "qat"},
            "phase sparse: teacher is 'qat', which must be an earlier phase or a .safetensors file; it has dense",
        ),
        (
            "dense",
            {"start": "qat"},
            "phase dense: start is 'qat', which must be an earlier phase or a .safetensors file; none is before it",
        ),
        ("dense", {"start": "dens"}, "phase dense: start is 'dens'"),
        ("qat", {"options": {"kep": [0.5]}}, "policy svit: unknown key 'kep'.*did you mean 'keep'"),
        ("qat", {"options": {"first": 3}}, "policy: first=3 leaves no block to gate"),
        ("dense", {"options": {"full": 0.5}}, "phase dense: options: a dense phase has no policy"),
        ("dense", {"policy": {"name": "svit"}}, "phase dense: policy: a dense phase has no policy; take it out"),
        ("qat", {"policy": {"name": "svti"}}, "svti.*did you mean 'svit'"),
        ("dense", {"crop_height": 50, "crop_width": 64}, "crop_height is 50; expected a multiple of 16 up to .* 64"),
        ("dense", {"crop_height": 48, "crop_width": 112}, "crop_width is 112; expected a multiple of 16 up to .* 96"),
        (
            "dense",
            {"accumulate": 3},
            "a batch of 2 can't be shared evenly by 1 process in 3 parts each; set batch to 3",
        ),
        ("dense", {"crop_height": 48}, "crop_height and crop_width go together"),
        ("qat", {"data": [{"data": "nowhere.yaml"}]}, "data set nowhere.yaml is not there"),
        ("qat", {"data": [{"data": "stret"}]}, "unknown data set 'stret'.*did you mean 'street'"),
    ],
)
def test_faults_of_a_phase_are_refused_before_any_training(
    tmp_path: Path, phase: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(changed(models.recipe(tmp_path), phase, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_another_width_is_refused_before_any_training(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path)
    card = models.card("dense", depth=3, stem="conv")
    card = card.model_copy(update={"model": card.model.model_copy(update={"size": "small"})})
    teacher = tmp_path / "small.safetensors"
    save(teacher, card, make_model(card).state_dict())
    with pytest.raises(
        InputError, match="tokens of a small model can't be learnt by a tiny one; set distill_tokens: 0"
    ):
        train(changed(recipe, "sparse", teacher=str(teacher), distill_tokens=1.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calibration": None}, "phase qat is quantization-aware and needs `calibration:` in the recipe"),
        ({"calibration": {"data": "nowhere.yaml"}}, "data set nowhere.yaml is not there"),
        ({"validation": {"data": "nowhere.yaml"}}, "data set nowhere.yaml is not there"),
        ({"model": {"classes": 7, "height": 64, "width": 96}}, "data set street has 11 classes, the model 7"),
        ({"device": "gpu"}, "device 'gpu' can't be used .*try `device: cpu`"),
    ],
)
def test_faults_of_a_recipe_are_refused_before_any_training(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(models.recipe(tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_set_with_too_few_frames_to_calibrate_on_is_refused_before_any_training(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path, calibration={"data": models.write_street(tmp_path), "split": "val"})
    with pytest.raises(InputError, match="has 4 frames to calibrate on in its split val; expected 8 or more"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_phase_and_a_folder_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path)
    with pytest.raises(InputError, match="no phase 'spars'; it has dense, sparse, qat; did you mean 'sparse'"):
        train(recipe, tmp_path / "out", only=["spars"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write checkpoints to"):
        train(recipe, tmp_path / "file")


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vit.safetensors is not there"):
        train(models.recipe(tmp_path, weights=str(tmp_path / "vit.safetensors")), tmp_path / "out")


def test_a_head_beside_a_start_is_refused(tmp_path: Path) -> None:
    """A start brings its own; of two, one would be left out without a word."""
    recipe = changed(
        models.recipe(tmp_path, head="zoo:street-tiny/qat"), "dense", start=str(tmp_path / "x.safetensors")
    )
    with pytest.raises(
        InputError, match=r"phase dense starts from .*x.safetensors, whose head it takes; take `start` out"
    ):
        check_phase(recipe, "dense", recipe.phases["dense"])

"""From a data set and weights to a recipe, and to a training."""

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import edgeprune
from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.model.checkpoint import save
from edgeprune.train.finetune import chosen_recipe, input_size, recipe_for
from edgeprune.train.phases import train
from edgeprune.train.recipe_file import load_recipe
from tests import models
from tests.model import vits


def write_set(folder: Path, height: int, width: int, name: str = "a yard") -> str:
    """Eight frames of three classes in each split."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(8):
            image_HW3 = np.full((height, width, 3), 40 * (index % 3), np.uint8)
            Image.fromarray(image_HW3).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(image_HW3[..., 0] // 40).save(folder / split / "labels" / f"{index}.png")
    content = {
        "name": name,
        "path": ".",
        "train": {"images": "train/images", "labels": "train/labels"},
        "val": {"images": "val/images", "labels": "val/labels"},
        "names": ["ground", "box", "person"],
    }
    (folder / "set.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "set.yaml")


@pytest.mark.parametrize(
    ("size", "patch", "expected"),
    [
        ((360, 480), 16, (384, 512)),  # CamVid's: a little larger than the frames
        ((1024, 2048), 16, (320, 640)),
        ((640, 640), 16, (448, 448)),
        ((640, 640), 14, (392, 392)),
        ((60, 90), 16, (64, 96)),  # nothing is blown up
        ((8, 90), 16, (64, 96)),
    ],
)
def test_the_input_suits_the_frames(
    tmp_path: Path, size: tuple[int, int], patch: int, expected: tuple[int, int]
) -> None:
    assert input_size(open_split(load_data_set(write_set(tmp_path, *size)), "train"), patch) == expected


def test_data_that_is_not_there_is_said_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked the hub"))
    data, weights = Path(write_set(tmp_path, 64, 96)), "hub:timm/vit"
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="train/images"):
        recipe_for(str(data), weights)
    recipe = load_recipe("street-short", [f"weights={weights}", f"phases.dense.data=[{{data: {data}}}]"])
    with pytest.raises(InputError, match="train/images"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_and_weights_say_what_the_recipe_leaves_open(tmp_path: Path) -> None:
    data = write_set(tmp_path, 120, 160)
    recipe = recipe_for(data, "zoo:street-tiny/qat")
    assert (recipe.name, recipe.weights) == ("finetune-a-yard", "zoo:street-tiny/qat")
    spec = recipe.model
    assert (spec.size, spec.depth, spec.stem, spec.classes) == ("tiny", 12, "conv", 3)
    assert (spec.height, spec.width) == (128, 160) and recipe.phases["crops"].crop == (96, 128)
    readers = [mix for phase in recipe.phases.values() for mix in phase.data]
    assert {each.data for each in (*readers, recipe.validation, recipe.calibration) if each} == {data}


def test_a_checkpoint_says_which_convolutions_and_layer_scale_it_has(tmp_path: Path) -> None:
    """Of others the head and the finer parts of the stem would begin anew, though nobody asked for that."""
    data = write_set(tmp_path, 120, 160)
    spec = recipe_for(data, "zoo:street-tiny-standing/qat").model
    assert (spec.stem, spec.convolutions, spec.layer_scale) == ("patch-conv", "half", None)
    card = models.card("dense", depth=2)
    scaled = card.model_copy(update={"model": card.model.model_copy(update={"layer_scale": 1e-5})})
    save(tmp_path / "scaled.safetensors", scaled, models.model(scaled).state_dict())
    assert recipe_for(data, str(tmp_path / "scaled.safetensors")).model.layer_scale == 1e-5
    assert (
        recipe_for(data, str(tmp_path / "scaled.safetensors"), overrides=["model.layer_scale=null"]).model.layer_scale
        is None
    )


def test_a_vit_says_its_size_by_its_tensors(tmp_path: Path) -> None:
    data, weights = write_set(tmp_path, 120, 160), tmp_path / "vit.safetensors"
    save_file(vits.vit(depth=2), weights)
    spec = recipe_for(data, str(weights)).model
    assert (spec.size, spec.depth, spec.stem) == ("tiny", 2, "patch-conv")
    narrow = {"blocks.0.attn.proj.weight": torch.zeros(128, 128)}
    save_file(narrow, weights)
    with pytest.raises(InputError, match=r"are 128 wide; expected 192, 384, 768, 1024"):
        recipe_for(data, str(weights))


def test_what_is_set_wins_and_a_recipe_keeps_its_size(tmp_path: Path) -> None:
    data = write_set(tmp_path, 120, 160)
    small = recipe_for(data, overrides=["model.height=96", "model.width=128"])
    assert small.phases["crops"].crop == (64, 96)  # windows follow the input
    assert recipe_for(data, overrides=["phases.crops.crop_height=32"]).phases["crops"].crop_height == 32
    recipe = recipe_for(
        data, overrides=["model.height=256", "name=mine", "model.classes=5", "phases.crops.crop_height=64"]
    )
    assert (recipe.name, recipe.model.height, recipe.model.classes) == ("mine", 256, 5)
    few = recipe_for(
        data,
        overrides=[
            f"phases.crops.data=[{{data: {data}, images: 2}}]",
            "validation.include=[a*]",
            "calibration.exclude=[b*]",
        ],
    )
    assert few.phases["crops"].data[0].images == 2 and few.phases["qat"].data[0].images is None
    assert few.validation is not None and (few.validation.data, few.validation.include) == (data, ["a*"])
    assert few.calibration is not None and (few.calibration.include, few.calibration.exclude) == (["*"], ["b*"])
    named = recipe_for(data, recipe="street-short")
    assert (named.name, named.model.height, named.model.classes) == ("street-short", 192, 3)
    assert named.phases["sparse"].data[0].data == data


def test_neither_a_recipe_nor_data() -> None:
    with pytest.raises(InputError, match="train needs a recipe or data: type `edgeprune train RECIPE`, or"):
        edgeprune.train()
    assert chosen_recipe("street-short", None, "zoo:street-tiny/pretrain", ["seed=3"]).seed == 3


def test_edgeprune_train_trains(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    data = write_set(tmp_path / "set", models.HEIGHT, models.WIDTH)
    [checkpoint] = edgeprune.train(data, recipe=tmp_path / "small.yaml", out=tmp_path / "out", phases=["dense"])
    assert checkpoint == tmp_path / "out" / "dense.safetensors" and checkpoint.is_file()
    told = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert told["model"]["classes"] == 3 and told["phases"]["dense"]["data"][0]["data"] == data

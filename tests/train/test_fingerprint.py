"""What a phase is made of: a later or resumed phase notices that frames, classes or weights have changed, and not that a
clone has moved; a teacher of other classes is refused, or teaches by its tokens alone."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import StreetSplit, load_data_set
from edgeprune.data.selection import CalibrationFrames
from edgeprune.model.checkpoint import HEADER, save, write_safetensors
from edgeprune.model.weight_files import read_safetensors
from edgeprune.quantize.loading import load, make_model, read_card
from edgeprune.train.fingerprint import as_compared, contents_of, difference, frames_digest, weights_digest
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.resume import NAME
from tests import models
from tests.models import changed
from tests.train.test_resume import stop_after

NAMES = models.STREET.names
FRAMES = 4


def write_set(folder: Path, **changes: Any) -> Path:
    """A data set of files: four small scenes of the street; its YAML."""
    for what in ("images", "labels"):
        (folder / what).mkdir(parents=True, exist_ok=True)
    for index in range(FRAMES):
        image_HW3, label_HW = models.scene(200 + index)
        Image.fromarray(image_HW3).save(folder / "images" / f"a{index}.png")
        Image.fromarray(label_HW).save(folder / "labels" / f"a{index}.png")
    split = {"images": "images", "labels": "labels"}
    content: dict[str, Any] = {"name": "own", "path": ".", "train": split, "val": split, "names": NAMES}
    content |= {"palette": [list(colour) for colour in models.STREET.palette], "ignore_index": 11}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def recipe_on(data: Path, **changes: Any) -> Recipe:
    phase = {"data": [{"data": str(data)}], "frames": 4, "batch": 2}
    content: dict[str, Any] = {
        "name": "tiny",
        "model": {"depth": 2, "stem": "conv", "height": models.HEIGHT, "width": models.WIDTH},
        "policy": {"name": "svit", "options": {"first": 1, "keep": [0.5]}},
        "phases": {"dense": phase | {"kind": "dense"}, "sparse": phase | {"kind": "sparse"}},
        "device": "cpu", "threads": 1, "bf16": False, "checkpoint_seconds": 0.0,
    }  # fmt: skip
    return Recipe.model_validate(content | changes)


def rename(names: list[str]) -> list[str]:
    return [*names[:3], "motorway", *names[4:]]


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def other_pixels(folder: Path) -> None:
    Image.new("L", (models.WIDTH, models.HEIGHT)).save(folder / "labels" / "a1.png")


def another_frame(folder: Path) -> None:
    for what in ("images", "labels"):
        shutil.copy(folder / what / "a0.png", folder / what / "b0.png")


def another_name(folder: Path) -> None:
    for what in ("images", "labels"):
        (folder / what / "a0.png").rename(folder / what / "b0.png")


def turn_colourful(folder: Path) -> None:
    """Labels in the palette's colours; see `test_of_labels_in_colours_the_palette_counts`."""
    colours = np.array(models.STREET.palette, np.uint8)
    for path in (folder / "labels").glob("*.png"):
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "label": (other_pixels, r"data 1 \(own train\) has other frames now, or other labels"),
    "frame": (another_frame, r"data 1 \(own train\) has other frames now"),
    "name": (another_name, r"data 1 \(own train\) has other frames now"),
    "colours": (turn_colourful, r"data 1 \(own train\) has other frames now, or other labels"),
    "ignore": (lambda folder: rewrite(folder / "own.yaml", ignore_index=200), r"data 1 \(own train\) has other"),
    "class": (
        lambda folder: rewrite(folder / "own.yaml", names=rename(NAMES)),
        "class 3 was 'road', and is 'motorway'",
    ),
    "order": (lambda folder: rewrite(folder / "own.yaml", names=NAMES[::-1]), "class 0 was 'sky', and is"),
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and `out`, in which the dense phase is done."""
    folder = tmp_path_factory.mktemp("made") / "clone"
    train(recipe_on(write_set(folder)), folder / "out", only=["dense"])
    return folder


@pytest.fixture
def clone(dense: Path, tmp_path: Path) -> Path:
    """The same, somewhere else: paths differ, contents don't."""
    shutil.copytree(dense, tmp_path / "moved")
    return tmp_path / "moved"


# ------------------------------------------------------------------------------------------------ later phases


def test_a_clone_that_moved_goes_on(clone: Path, said: list[str]) -> None:
    train(recipe_on(clone / "own.yaml"), clone / "out")
    assert said[0].startswith("dense: done before") and said[-1].startswith("sparse: wrote")
    made = read_card(clone / "out" / "sparse.safetensors").provenance["made_of"]
    assert sorted(made) == ["classes", "data 1", "start"]


@pytest.mark.parametrize("only", [None, ["sparse"]])
@pytest.mark.parametrize("change", CHANGES)
def test_a_later_phase_notices_what_has_changed(clone: Path, change: str, only: list[str] | None) -> None:
    alter, words = CHANGES[change]
    alter(clone)
    before = sorted(clone.glob("out/*"))
    with pytest.raises(
        InputError, match=rf"dense.safetensors was trained on something else: {words}.*delete it"
    ) as found:
        train(recipe_on(clone / "own.yaml"), clone / "out", only=only)
    assert "\n" not in str(found.value) and sorted(clone.glob("out/*")) == before


@pytest.mark.parametrize(("key", "value"), [("exclude", ["a0"]), ("images", 2)])
def test_a_phase_left_out_of_this_run_is_compared_with_the_recipe_too(clone: Path, key: str, value: Any) -> None:
    """Trained with all frames, and gone on with some of them."""
    recipe = changed(recipe_on(clone / "own.yaml"), "dense", data=[{"data": str(clone / "own.yaml"), key: value}])
    words = rf"dense.safetensors was trained with data .*, the recipe says .*'{key}': {re.escape(str(value))}"
    with pytest.raises(InputError, match=words):
        train(recipe, clone / "out", only=["sparse"])


def test_a_key_that_an_earlier_version_lacked_changes_nothing_where_it_says_nothing() -> None:
    mix = {"data": "folder/own.yaml", "share": 1.0}
    assert as_compared([mix | {"images": None}]) == as_compared([mix]) == [{"data": "own.yaml", "share": 1.0}]
    assert as_compared([mix | {"images": 2}]) != as_compared([mix])


def test_other_weights_to_begin_with_are_noticed(clone: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(clone / "out" / "dense.safetensors", start)
    recipe = recipe_on(clone / "own.yaml", weights=str(start))
    out = tmp_path / "out"
    train(recipe, out, only=["dense"])
    train(recipe, out, only=["dense"])
    shutil.copy(out / "dense.safetensors", start)
    with pytest.raises(
        InputError, match="dense.safetensors was trained on something else: `weights` holds other weights"
    ):
        train(recipe, out)


def test_weights_to_begin_with_do_not_pass_for_an_earlier_phase(clone: Path) -> None:
    """Where a phase is put before another, or taken away, what the other begins with is another thing."""
    recipe = recipe_on(clone / "own.yaml", weights=str(clone / "out" / "dense.safetensors"))
    first, second = (contents_of(PhaseRun(recipe, name, clone / "out")) for name in ("dense", "sparse"))
    assert first["begins"] == "weights" and second["start"]
    assert difference(first, second) == "it began with weights, the recipe says an earlier phase or a `start`"
    assert difference(second, first) == "it began with an earlier phase or a `start`, the recipe says weights"
    elsewhere = {key: value for key, value in second.items() if key != "start"}  # whose checkpoint is not at hand
    assert difference(second, elsewhere) is None and difference(elsewhere, second) is None


def test_ranges_of_int8_that_were_measured_otherwise_are_noticed(clone: Path) -> None:
    calibration = {"data": str(clone / "own.yaml"), "frames": 8}
    recipe = recipe_on(clone / "own.yaml", calibration=calibration)
    recipe = recipe.model_copy(
        update={"phases": recipe.phases | {"qat": recipe.phases["sparse"].model_copy(update={"kind": "qat"})}}
    )
    found = contents_of(PhaseRun(recipe, "qat", clone / "out"))
    other = recipe.model_copy(update={"calibration": CalibrationFrames(**calibration, equalise=False)})
    now = contents_of(PhaseRun(other, "qat", clone / "out"))
    assert difference(found, now) == (
        "its INT8 ranges were measured with frames=8,percentile=None,equalise=True, the recipe says "
        "frames=8,percentile=None,equalise=False"
    )
    before = {key: value for key, value in found.items() if key != "calibrated"}  # of an earlier version
    assert difference(before, now) is None


def test_a_phase_trained_anew_does_not_pass_for_the_one_before(clone: Path) -> None:
    train(recipe_on(clone / "own.yaml"), clone / "out")
    (clone / "out" / "dense.safetensors").unlink()
    again = changed(recipe_on(clone / "own.yaml"), "dense", lr=2e-3)
    with pytest.raises(
        InputError, match="sparse.safetensors was trained on something else: `start` holds other weights"
    ):
        train(again, clone / "out")
    assert (clone / "out" / "dense.safetensors").is_file()  # what was trained stays


def forget(path: Path) -> None:
    """Makes a checkpoint one of an earlier version, which did not say what it was made of."""
    card = read_card(path)
    del card.provenance["made_of"]
    write_safetensors(path, "checkpoint", read_safetensors(path), {HEADER: card.model_dump_json()})


def test_a_checkpoint_of_an_earlier_version_is_taken_and_that_is_said(clone: Path, said: list[str]) -> None:
    forget(clone / "out" / "dense.safetensors")
    other_pixels(clone)
    said.clear()
    train(recipe_on(clone / "own.yaml"), clone / "out")
    assert "an earlier version wrote" in said[0] and "taken as it is" in said[0]
    rewrite(clone / "own.yaml", names=rename(NAMES))  # its class names it does say
    with pytest.raises(InputError, match="class 3 was 'road'"):
        train(recipe_on(clone / "own.yaml"), clone / "out")


def test_what_is_not_at_hand_is_said_not_to_be_compared(clone: Path, said: list[str]) -> None:
    shutil.rmtree(clone / "images")
    said.clear()
    train(recipe_on(clone / "own.yaml"), clone / "out", only=["dense"])
    assert said[0].startswith("dense: data 1, classes can't be read here, and was not compared")
    assert said[1].startswith("dense: done before")


# ------------------------------------------------------------------------------------------------ resumed phases


@pytest.mark.parametrize("change", [*CHANGES, "weights"])
def test_a_resumed_phase_notices_what_has_changed(
    clone: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(clone / "out" / "dense.safetensors", start)
    recipe, out = recipe_on(clone / "own.yaml", weights=str(start)), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out, only=["dense"])
    if change == "weights":
        tensors = read_safetensors(start)
        tensors["norm.weight"] += 0.01
        write_safetensors(start, "checkpoint", tensors, {HEADER: read_card(start).model_dump_json()})
        words = "`weights` holds other weights now"
    else:
        alter, words = CHANGES[change]
        alter(clone)
    with pytest.raises(InputError, match=rf"out/dense holds a run that was made of something else: {words}") as found:
        train(recipe, out, only=["dense"])
    assert "\n" not in str(found.value) and (out / "dense" / NAME).is_file()


def test_a_resumed_phase_goes_on_elsewhere_and_not_from_an_earlier_version(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(recipe_on(clone / "own.yaml"), out, only=["dense"])
    state = out / "dense" / NAME
    saved = json.loads(state.read_text())
    recipe = recipe_on(clone.rename(tmp_path / "again") / "own.yaml")
    state.write_text(json.dumps({key: value for key, value in saved.items() if key != "made_of"}))
    with pytest.raises(
        InputError, match="out/dense was saved by an earlier version.*delete it to begin .* again"
    ) as found:
        train(recipe, out, only=["dense"])
    assert "\n" not in str(found.value) and state.is_file()
    state.write_text(json.dumps(saved))
    train(recipe, out, only=["dense"])
    assert "dense: resumes at step 1 of 2" in said


# ------------------------------------------------------------------------------------------------ digests


def test_frames_are_told_by_names_sizes_and_what_the_set_says(tmp_path: Path) -> None:
    data_set = load_data_set(str(write_set(tmp_path / "a")))
    elsewhere = load_data_set(str(write_set(tmp_path / "b", name="other")))

    def digest(content: Any, split: str = "train", **globs: Any) -> str:
        return frames_digest(content, split, open_split(content, split, **globs))

    assert digest(data_set) == digest(elsewhere)
    assert digest(data_set) != digest(data_set, include=["a0", "a1"]) != digest(data_set, exclude=["a0"])
    assert digest(data_set, include=["a1", "a2", "a3"]) == digest(data_set, exclude=["a0"])
    seen = {
        digest(data_set),
        digest(models.STREET),
        digest(models.STREET, "val"),
        digest(load_data_set("street-small")),
    }
    assert len(seen) == 4


@pytest.mark.parametrize("says", [{"population": "camvid"}, {"clip": 8}])
def test_the_streets_digest_is_that_of_earlier_runs_unless_it_says_what_these_could_not(says: dict[str, Any]) -> None:
    """Nothing that a data set says for scores alone, such as which classes are things, makes a run another one."""
    street = load_data_set("street-small")
    assert frames_digest(street, "val", open_split(street, "val")) == "cc9b1bbb0533a6fc"
    assert isinstance(street.val, StreetSplit)
    other = street.model_copy(update={"val": street.val.model_copy(update=says)})
    assert frames_digest(other, "val", open_split(other, "val")) != "cc9b1bbb0533a6fc"


def test_of_labels_in_colours_the_palette_counts(tmp_path: Path) -> None:
    palette = [list(colour) for colour in models.STREET.palette]
    digests = []
    for colourful in (False, True):
        for colours in (palette, palette[::-1]):
            path = write_set(tmp_path / "set", palette=colours)
            if colourful:
                turn_colourful(tmp_path / "set")
            data_set = load_data_set(str(path))
            digests.append(frames_digest(data_set, "train", open_split(data_set, "train")))
    assert digests[0] == digests[1] and digests[2] != digests[3]  # of ids it is for looking at alone


def test_weights_are_told_by_their_tensors_alone(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(1.0)}
    paths = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "three", "four")]
    write_safetensors(paths[0], "weights", tensors)
    write_safetensors(paths[1], "weights", dict(reversed(tensors.items())), {"note": "another header"})
    write_safetensors(paths[2], "weights", tensors | {"a": torch.tensor(2.0)})
    write_safetensors(paths[3], "weights", tensors | {"b": torch.arange(6.0).view(3, 2)})
    first, second, *others = (weights_digest(path) for path in paths)
    assert first == second and len({first, *others}) == 3


# ------------------------------------------------------------------------------------------------ whose classes


def teacher_of(folder: Path, names: list[str]) -> Path:
    card = models.card("dense", depth=2, stem="conv")
    card = card.model_copy(
        update={
            "model": card.model.model_copy(update={"classes": len(names)}),
            "names": names,
            "palette": [(index, 0, 0) for index in range(len(names))],
        }
    )
    path = folder / "teacher.safetensors"
    save(path, card, make_model(card).state_dict())
    return path


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (NAMES[:7], "there were 7 classes, and are 11"),
        (rename(NAMES), "class 3 was 'motorway', and is 'road'"),
        (NAMES[::-1], "class 0 was "),
    ],
)
def test_a_teacher_of_other_classes_is_refused_or_teaches_by_its_tokens_alone(
    tmp_path: Path, names: list[str], words: str
) -> None:
    teacher = str(teacher_of(tmp_path, names))
    recipe = recipe_on(write_set(tmp_path / "set"))
    with pytest.raises(
        InputError, match=rf"phase sparse: teacher .* knows other classes: {words}.*distill: 0 and"
    ) as found:
        train(changed(recipe, "sparse", teacher=teacher, distill=1.0), tmp_path / "out")
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()
    train(changed(recipe, "sparse", teacher=teacher, distill_tokens=1.0), tmp_path / "out")
    alone = load(tmp_path / "out" / "sparse.safetensors")[0].state_dict()
    train(recipe, tmp_path / "untaught")
    untaught = load(tmp_path / "untaught" / "sparse.safetensors")[0].state_dict()
    assert any(not torch.equal(value, untaught[key]) for key, value in alone.items())  # it was heard


@pytest.mark.parametrize("names", [NAMES[:7], NAMES[::-1]])
def test_weights_of_other_classes_begin_with_a_new_last_layer(
    tmp_path: Path, names: list[str], said: list[str]
) -> None:
    start = teacher_of(tmp_path, names)
    recipe = changed(recipe_on(write_set(tmp_path / "set"), weights=str(start)), "dense", frames=0)
    said.clear()
    (path,) = train(recipe, tmp_path / "out", only=["dense"])
    assert f"dense: {start} has other classes, so its last layer begins anew" in said
    before, after = read_safetensors(start), read_safetensors(path)
    assert torch.equal(before["blocks.1.mlp.fc1.weight"], after["blocks.1.mlp.fc1.weight"])
    assert before["head.classify.weight"].shape != after["head.classify.weight"].shape or not torch.equal(
        before["head.classify.weight"], after["head.classify.weight"]
    )


def test_phases_and_validation_name_the_same_classes(tmp_path: Path) -> None:
    one, two = write_set(tmp_path / "one"), write_set(tmp_path / "two", names=rename(NAMES))
    with pytest.raises(
        InputError, match="other classes than phase dense: class 3 was 'road', and is 'motorway'; write two"
    ):
        train(changed(recipe_on(one), "sparse", data=[{"data": str(two)}]), tmp_path / "out")
    with pytest.raises(InputError, match="other classes than phase dense"):
        train(recipe_on(one, validation={"data": str(two)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_to_begin_with_that_does_not_fit_is_refused_before_the_first_phase(tmp_path: Path) -> None:
    card = models.card("dense", depth=1, stem="conv")
    save(tmp_path / "shallow.safetensors", card, make_model(card).state_dict())
    recipe = changed(recipe_on(write_set(tmp_path / "set")), "sparse", start=str(tmp_path / "shallow.safetensors"))
    with pytest.raises(InputError, match="shallow.safetensors lacks"):
        train(recipe, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_phase_says_what_it_is_made_of(clone: Path) -> None:
    recipe = changed(recipe_on(clone / "own.yaml"), "sparse", teacher="dense", distill=1.0)
    found = contents_of(PhaseRun(recipe, "sparse", clone / "out"))
    assert sorted(found) == ["classes", "data 1", "start", "teacher"] and found["start"] == found["teacher"]
    assert json.loads(found["classes"]) == NAMES and found["data 1"].endswith(" own train")

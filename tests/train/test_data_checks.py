"""What is wrong with the data of things is told before the first phase, and a change of what counts as one after it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeprune.base.errors import InputError
from edgeprune.train.data_checks import check_data
from edgeprune.train.fingerprint import contents_of, difference
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Recipe
from tests import models
from tests.data.coco_files import BOX, CRATE, annotation, rectangle, write_set
from tests.train import rectangles


def recipe(folder: Path, annotations: list[dict[str, Any]], **validation: Any) -> Recipe:
    """Of things, on two frames with these; `frames` of them are validated on."""
    data_set = write_set(folder, annotations)
    content = data_set.model_dump(mode="json", exclude_defaults=True) | {"name": "tiny"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    data = str(folder / "tiny.yaml")
    made = rectangles.recipe(folder)
    model = made.model.model_dump() | {"classes": len(data_set.names)}
    changed = rectangles.recipe(folder, model=model, validation={"data": data} | validation, calibration=None)
    for name in changed.phases:
        changed = models.changed(changed, name, data=[{"data": data}])
    return changed


def things(**keys: Any) -> list[dict[str, Any]]:
    """A box in each frame; `keys`: of that in the second."""
    box = [rectangle(2, 2, 8, 8)]
    return [annotation(1, BOX, box), annotation(2, BOX, box, image=1000) | keys]


def test_a_thing_without_a_number_is_told_before_the_first_step(tmp_path: Path) -> None:
    """Else it would be when the frame is first read, in any step or at the first validation."""
    made = recipe(tmp_path, things())
    check_data(made, {"dense": made.phases["dense"]}, None)
    made = recipe(tmp_path, things(id="0c6e"))
    with pytest.raises(InputError, match=r"image b.png, annotation .* is no whole number; number the things"):
        check_data(made, {"dense": made.phases["dense"]}, None)


def test_a_validation_without_things_is_told_before_the_first_step(tmp_path: Path) -> None:
    """A crowd is no thing that can be found."""
    made = recipe(tmp_path, things(iscrowd=1), include=["b"])
    with pytest.raises(
        InputError, match=r"none of the 1 frames of data set 'tiny' that are scored has a thing; of 1 score"
    ):
        check_data(made, {"dense": made.phases["dense"]}, None)
    made = recipe(tmp_path, things(iscrowd=1))
    check_data(made, {"dense": made.phases["dense"]}, None)


def test_a_phase_that_learnt_other_classes_as_things_is_noticed(tmp_path: Path) -> None:
    both = [*things(), annotation(3, CRATE, [rectangle(10, 2, 16, 8)])]
    run = PhaseRun(recipe(tmp_path, both), "dense", tmp_path)
    before = contents_of(run)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"things": ["box"]}))
    assert difference(before, contents_of(run)) == "its things were box, crate, and the data's are box"
    earlier = {key: value for key, value in before.items() if key != "things"}
    assert difference(earlier, contents_of(run)) is None  # an earlier version did not say
    labels = PhaseRun(models.changed(rectangles.recipe(tmp_path), "dense"), "dense", tmp_path)
    labels.recipe.model = labels.recipe.model.model_copy(update={"task": "semantic"})
    assert "things" not in contents_of(labels)

"""A recipe without a part of its data: leave one drive out."""

from pathlib import Path

from edgeprune.base.errors import InputError, nearest
from edgeprune.base.paths import real_path
from edgeprune.data.selection import CalibrationFrames
from edgeprune.train.recipe import Mix, Recipe, Validation


def leave_out(recipe: Recipe, group: str) -> Recipe:
    """The recipe without a part of its data, which becomes what it is validated on: `leave one drive out`. Where it chooses by
    its validation, that stays what it is: what is reported must not choose.

    Args:
        group: `DATA:GLOB`, for example `camvid:0016E5*`: file stems of the data set's training split.

    Raises:
        InputError: not of this form, or the recipe does not use that data set.
    """
    data, pattern = _read_group(recipe, group)
    left = recipe.model_copy(deep=True)
    readers: list[Mix | CalibrationFrames] = [mix for phase in left.phases.values() for mix in phase.data]
    if left.calibration is not None:
        readers.append(left.calibration)
    for reader in readers:
        if reader.data == data and reader.split == "train":
            reader.exclude = [*reader.exclude, pattern]
    watched = left.validation or Validation(data=data)
    if watched.chooses:
        watched.exclude = [*watched.exclude, pattern]
        return left
    left.validation = _frames_of(watched, data, pattern)
    return left


def reported(recipe: Recipe, group: str | None) -> Validation:
    """The frames that a study scores at the end (`times` is 0): of a group that was left out those, else what the recipe is
    validated on.

    Args:
        recipe: as `leave_out` made it, where there is a group.

    Raises:
        InputError: it is validated on nothing, or chooses by its validation and no group is left out.
    """
    watched = recipe.validation
    if watched is None:
        raise InputError(
            f"recipe {recipe.name}: what is trained is scored on its validation frames: give `validation:`"
        )
    if group is not None:
        watched = _frames_of(watched, *_read_group(recipe, group))
    elif watched.chooses:
        key = "keep: best" if watched.keep == "best" else "patience"
        raise InputError(
            f"recipe {recipe.name}: validation: {key} chooses by the frames that would be scored, whose figure would be the "
            "luck of that choice; give --leave-out DATA:GLOB, which is scored then, or take the key out"
        )
    return watched.model_copy(update={"times": 0}, deep=True)


def _read_group(recipe: Recipe, group: str) -> tuple[str, str]:
    """The data set, as the recipe names it, and the glob."""
    data, colon, pattern = group.rpartition(":")
    if not colon or not data or not pattern:
        raise InputError(f"--leave-out {group!r}: expected DATA:GLOB, for example camvid:0016E5*")
    used = sorted({mix.data for phase in recipe.phases.values() for mix in phase.data})
    data = next((each for each in used if real_path(Path(each)) == real_path(Path(data))), data)
    if data not in used:
        raise InputError(f"--leave-out {group!r}: the recipe trains on {', '.join(used)}{nearest(data, used)}")
    return data, pattern


def _frames_of(watched: Validation, data: str, pattern: str) -> Validation:
    """A validation of the frames of a group, by which nothing is chosen."""
    whole = {"data": data, "split": "train", "include": [pattern], "exclude": [], "hold_out": None}
    return watched.model_copy(update={**whole, "keep": "last", "patience": None}, deep=True)

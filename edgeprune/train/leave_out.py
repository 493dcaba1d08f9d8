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
    data, colon, pattern = group.rpartition(":")
    if not colon or not data or not pattern:
        raise InputError(f"--leave-out {group!r}: expected DATA:GLOB, for example camvid:0016E5*")
    used = sorted({mix.data for phase in recipe.phases.values() for mix in phase.data})
    data = next((each for each in used if real_path(Path(each)) == real_path(Path(data))), data)
    if data not in used:
        raise InputError(f"--leave-out {group!r}: the recipe trains on {', '.join(used)}{nearest(data, used)}")
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
    left.validation = watched.model_copy(
        update={"data": data, "split": "train", "include": [pattern], "exclude": [], "hold_out": None}, deep=True
    )
    return left

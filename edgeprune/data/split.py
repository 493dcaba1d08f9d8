"""From the YAML of a data set to the samples of one of its splits."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.base.errors import InputError, nearest
from edgeprune.data.datasets import DataSet, FolderSplit, StreetSplit, load_data_set
from edgeprune.data.folder import FolderSamples, Masks, MissingLabels
from edgeprune.data.labels import LabelReader
from edgeprune.data.layout import folder_of
from edgeprune.data.pairs import Choice, Globs, pair_up
from edgeprune.data.samples import Samples, Split
from edgeprune.data.selection import LEAST_FRAMES, CalibrationFrames
from edgeprune.data.street import StreetSamples

SPLITS = ("train", "val", "test")


def splits_of(data_set: DataSet) -> dict[str, FolderSplit | StreetSplit]:
    """The splits that a data set has."""
    return {name: spec for name in SPLITS if (spec := getattr(data_set, name)) is not None}


def spec_of(data_set: DataSet, split: str) -> FolderSplit | StreetSplit:
    """Where the frames of a split are.

    Raises:
        InputError: no such split.
    """
    splits = splits_of(data_set)
    if split not in splits:
        raise InputError(
            f"data set {data_set.name!r} has no split {split!r}; it has {', '.join(splits)}"
            f"{nearest(split, list(splits))}"
        )
    return splits[split]


def folders_of(data_set: DataSet, split: str) -> list[Path]:
    """Where the files of a split are: what no output may be among. None of a street's, which is rendered.

    Raises:
        InputError: no such split.
    """
    spec = spec_of(data_set, split)
    if isinstance(spec, StreetSplit) or data_set.path is None:
        return []
    return [folder_of(data_set.path / place) for place in (spec.images, spec.labels)]


def open_split(
    data_set: DataSet, split: str, include: Sequence[str] = ("*",), exclude: Sequence[str] = (), *, things: bool = False
) -> Split:
    """The samples of a split; no image is read before it is asked for.

    Args:
        data_set: from `data.datasets.load_data_set`.
        split: `train`, `val` or `test`.
        include: globs over the file stem; a sample must match one of these and one of the split's own.
        exclude: globs over the file stem, beside the split's own. Scenes of the street have no stems to select by. Neither
            moves the ends of a split that is a `part` of its folder.
        things: whether samples have things too, which labels of the formats in OUTLINED tell apart.

    Raises:
        InputError: no such split, folders missing or empty, images without labels; or things of labels that have none.
    """
    spec = spec_of(data_set, split)
    if things:
        _check_outlined(data_set, split, spec)
    if isinstance(spec, StreetSplit):
        if list(include) != ["*"] or exclude:
            raise InputError(
                f"split {split!r} of data set {data_set.name!r} is rendered and has no file stems to include or "
                f"exclude; set `seed` and `frames` in its YAML instead"
            )
        return StreetSamples(spec.seed, spec.frames, spec.height, spec.width, spec.population, spec.clip)
    if data_set.path is None or not os.path.isdir(data_set.path):
        raise InputError(
            f"data set {data_set.name!r} is not at {data_set.path}; copy its YAML, edit `path:` in it and name the copy"
        )
    file_list = None if spec.file_list is None else data_set.path / spec.file_list
    choice = Choice(Globs(spec.include, spec.exclude), spec.part, Globs(include, exclude), file_list)
    samples = FORMATS[spec.format](data_set, spec, choice)
    return samples.with_things() if things else samples


def tells_things_apart(data_set: DataSet, split: str) -> bool:
    """Whether the labels of a split tell the things of a class from each other. Raises InputError: no such split."""
    spec = spec_of(data_set, split)
    return isinstance(spec, FolderSplit) and spec.format in OUTLINED


def _check_outlined(data_set: DataSet, split: str, spec: FolderSplit | StreetSplit) -> None:
    """Raises InputError where labels do not tell the things of a class from each other."""
    if isinstance(spec, StreetSplit):
        raise InputError(
            f"split {split!r} of data set {data_set.name!r} is rendered as label maps, which tell no thing of a class from the "
            "next; write its scenes as COCO's JSON, `python -m edgeprune.lab.street_instances FOLDER`, and name FOLDER as data"
        )
    if spec.format not in OUTLINED:
        raise InputError(
            f"split {split!r} of data set {data_set.name!r} has label maps, which tell no thing of a class from the next; "
            "export outlines, as COCO's JSON or YOLO's polygons, and name their folder as data, or train with `task: semantic`"
        )


def _open_masks(data_set: DataSet, spec: FolderSplit, choice: Choice) -> FolderSamples:
    assert data_set.path is not None
    pairs = pair_up(data_set.path, data_set.path / spec.images, data_set.path / spec.labels, choice)
    images, labels = pairs.folders
    masks = Masks(labels, pairs.labels, LabelReader(data_set))
    samples = FolderSamples(images, pairs.names, pairs.images, masks)
    if pairs.missing:
        raise MissingLabels(pairs.missing, samples)
    return samples


def _open_coco(data_set: DataSet, spec: FolderSplit, choice: Choice) -> FolderSamples:
    from edgeprune.data.coco import open_coco  # polygons are for training; a device that runs does without

    return open_coco(data_set, spec, choice)


def _open_yolo(data_set: DataSet, spec: FolderSplit, choice: Choice) -> FolderSamples:
    from edgeprune.data.yolo import open_yolo

    return open_yolo(data_set, spec, choice)


OUTLINED = ("coco", "yolo")  # the formats that tell things apart
# by a split's `format`
FORMATS: dict[str, Callable[[DataSet, FolderSplit, Choice], FolderSamples]] = {
    "masks": _open_masks,
    "coco": _open_coco,
    "yolo": _open_yolo,
}


def open_calibration(spec: CalibrationFrames) -> Samples:
    """The frames that a recipe or the command line names.

    Raises:
        InputError: see `open_split`; or they are too few to say anything of a quantile.
    """
    split = open_split(load_data_set(spec.data), spec.split, spec.include, spec.exclude)
    if len(split) < LEAST_FRAMES:
        raise InputError(
            f"data set {spec.data} has {len(split)} frames to calibrate on in its split {spec.split}; expected {LEAST_FRAMES} "
            f"or more: name another split or data set"
        )
    return split


def spread(total: int, count: int | None) -> list[int]:
    """`count` of the indices 0 to total - 1, evenly from the first to the last; all of them for None."""
    if count is None or count >= total:
        return list(range(total))
    if count == 1:
        return [total // 2]
    return [round(step * (total - 1) / (count - 1)) for step in range(count)]

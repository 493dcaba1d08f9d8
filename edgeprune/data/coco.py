"""COCO's JSON of instances as outlines, which stay in the file until they are drawn."""

import math
from collections.abc import Iterable
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import open_regular
from edgeprune.data.classes import class_table, thing_classes
from edgeprune.data.coco_index import Index, index_of, whole
from edgeprune.data.datasets import DataSet, FolderSplit
from edgeprune.data.folder import FolderSamples
from edgeprune.data.json_records import parse_record
from edgeprune.data.outlines import Outline, Outlines
from edgeprune.data.pairs import Choice, listed, read_list
from edgeprune.data.polygons import LEAST_POINTS, Floats, Runs, checked_runs, decode_runs
from edgeprune.data.samples import UInt8, WrongIds

MOST_PIXELS = 1 << 28
MOST_NAMED = 5  # categories in a line


class CocoLabels:
    """Outlines from a file's annotations: large ones first, so that what lies before them stays to be seen.

    Args:
        places: of each sample its image in the index.
    """

    coloured = False

    def __init__(self, index: Index, places: list[int], data_set: DataSet) -> None:
        self._index, self._places = index, places
        self._class_of, self._ground = class_table(data_set)
        self._things = thing_classes(data_set)

    def file(self, index: int) -> Path:
        return self._index.path

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8:
        """See `Labels.read`; the size is that which the file says."""
        return self.outlines(index, size).label()

    def outlines(self, index: int, size: tuple[int, int] | None) -> Outlines:
        """See `Labels.outlines`; the size is that which the file says."""
        found, place = self._index, self._places[index]
        height, width = found.sizes[2 * place : 2 * place + 2]
        if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
            raise InputError(f"{self._where(index)}: {width}x{height} is no size of an image; export the file again")
        each = [self._outline(annotation, index, (height, width)) for annotation in self._annotations(index)]
        return Outlines(self._where(index), (height, width), self._ground, each)

    def remarks(self) -> list[str]:
        """See `Labels.remarks`: categories of no annotation, and annotations of categories that there are none of."""
        path, categories, used = self._index.path, self._index.categories, self._index.used
        unused = [name for category, name in categories.items() if category not in used]
        unknown = {category: count for category, count in used.items() if category not in categories}
        found = []
        if unused:
            found.append(
                f"categories without an annotation: {len(unused)} of {len(categories)} in {path} ({_some(unused)}); they can "
                "be neither learnt nor scored"
            )
        if unknown:
            found.append(
                f"annotations of categories that there are none of: {sum(unknown.values()):,} of {used.total():,} in {path} "
                f"(category {_some(map(str, sorted(unknown)))}); name them in `categories`, or export the file again"
            )
        return found

    def _annotations(self, index: int) -> list[dict[str, Any]]:
        found, place = self._index, self._places[index]
        each = []
        with open_regular(found.path, "annotations") as (file, _):
            for row in range(found.begins[place], found.begins[place + 1]):
                file.seek(found.offsets[row])
                try:
                    each.append(parse_record(file.read(found.lengths[row])))
                except ValueError:
                    raise InputError(f"{self._where(index)} has changed since it was opened; begin again") from None
        return sorted(each, key=_area, reverse=True)

    def _outline(self, annotation: dict[str, Any], index: int, size: tuple[int, int]) -> Outline:
        category = int(annotation["category_id"])
        if category not in self._class_of:
            raise WrongIds(
                f"{self._where(index)} has category {category}, which `ids` of the data-set YAML does not name; add its "
                f"class, or `{category}: ignore`"
            )
        name = f"annotation {annotation.get('id')}"
        try:
            parts, runs = _shape(annotation.get("segmentation"), *size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self._where(index)}, {name}: {error}") from None
        area, class_id = _area(annotation), self._class_of[category]
        return Outline(
            name,
            class_id,
            class_id in self._things,
            parts,
            runs,
            annotation.get("iscrowd") in (1, "1"),
            _identity(annotation),
            None if math.isinf(area) else area,
            _box(annotation.get("bbox")),
        )

    def _where(self, index: int) -> str:
        return f"annotations {self._index.path}, image {self._index.files[self._places[index]]}"


def _shape(shape: Any, height: int, width: int) -> tuple[list[Floats], Runs | None]:
    """The polygons of an annotation, or its run lengths.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is neither.
    """
    if isinstance(shape, dict):
        of_height, of_width = (int(length) for length in shape["size"])
        if (of_height, of_width) != (height, width):
            raise ValueError(f"its run lengths are of {of_width}x{of_height}")
        counts = shape["counts"]
        return [], checked_runs(decode_runs(counts) if isinstance(counts, str) else counts, height, width)
    if not shape:
        raise ValueError("it has a box and no outline; label outlines, or leave the image out with `exclude`")
    parts = []
    for part in shape:
        points_N2 = np.array(part, np.float64).reshape(-1, 2)
        if len(points_N2) < LEAST_POINTS or not np.isfinite(points_N2).all():
            raise ValueError(f"a polygon of {len(points_N2)} points, or of none that is a number")
        parts.append(points_N2)
    return parts, None


def _area(annotation: dict[str, Any]) -> float:
    """In pixels as the file says it; infinite where it does not."""
    area = annotation.get("area")
    try:
        return float(area) if isinstance(area, int | float) and math.isfinite(area) else math.inf
    except OverflowError:
        return math.inf


def _identity(annotation: dict[str, Any]) -> int | None:
    """What a thing is called from frame to frame, or the number of its annotation; None where that is no whole number."""
    number = annotation.get("track_id")
    try:
        return whole(annotation.get("id") if number is None else number)
    except (ValueError, OverflowError):
        return None


def _box(box: Any) -> list[float] | None:
    """Left, top, width and height; of what are no numbers a box of no area."""
    if box is None:
        return None
    try:
        left, top, width, height = (float(each) for each in box)
    except (TypeError, ValueError, OverflowError):
        return [0.0, 0.0, 0.0, 0.0]
    return [left, top, width, height]


def _some(names: Iterable[str]) -> str:
    """The first few of a list."""
    each = list(names)
    return ", ".join(each[:MOST_NAMED]) + (", ..." if len(each) > MOST_NAMED else "")


def open_coco(data_set: DataSet, spec: FolderSplit, choice: Choice) -> FolderSamples:
    """The images that a JSON file names, with label maps drawn from its annotations. An image without one is all background.

    Raises:
        InputError: the file or an image is missing, or it is none of instances.
    """
    assert data_set.path is not None
    folder, index = data_set.path / spec.images, index_of(data_set.path / spec.labels)
    place_of = {str(Path(name).with_suffix("")): place for place, name in enumerate(index.files)}
    files = {stem: index.files[place] for stem, place in place_of.items()}
    if not files:
        raise InputError(f"annotations {index.path} have no image; export them again")
    if len(files) < len(index.files):
        twice = next(
            name for place, name in enumerate(index.files) if place_of[str(Path(name).with_suffix(""))] != place
        )
        raise InputError(f"annotations {index.path} have two images of the stem of {twice}; keep one of the two")
    if choice.file_list:
        files = listed(files, read_list(choice.file_list), choice.file_list, folder)
    names = choice.of(sorted(files), folder)
    gone = [name for name in names if not isfile(folder / files[name])]
    if gone:
        raise InputError(
            f"{len(gone)} of {len(names)} images that {index.path} names are not in {folder}, such as {files[gone[0]]}; "
            "correct `images:` in the data-set YAML, or leave them out with `exclude`"
        )
    labels = CocoLabels(index, [place_of[name] for name in names], data_set)
    return FolderSamples(folder, names, [files[name] for name in names], labels)

"""COCO's JSON of instances as label maps. The file is indexed once; outlines stay in it until they are drawn."""

import math
from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import open_regular
from edgeprune.data.classes import class_table
from edgeprune.data.datasets import DataSet, FolderSplit
from edgeprune.data.folder import FolderSamples
from edgeprune.data.json_records import parse_record, records
from edgeprune.data.pairs import Choice, listed, read_list
from edgeprune.data.polygons import LEAST_POINTS, decode_runs, from_runs, paint
from edgeprune.data.samples import UInt8, WrongIds

MOST_PIXELS = 1 << 28
MOST_ID = 1 << 62


@dataclass
class Index:
    """What a file says of its images, and where in it the annotations of each are.

    Attributes:
        categories: names by id, and in `used` those that an annotation has.
        offsets, lengths: of the annotations in the file, those of image i from `begins[i]` to `begins[i + 1]`.
    """

    path: Path
    files: list[str] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("i"))  # height, width, of one image after the other
    categories: dict[int, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("i"))
    begins: "array[int]" = field(default_factory=lambda: array("i"))


def index_of(path: Path) -> Index:
    """Of a JSON file; that of one that has been read, and has not changed since, is kept.

    Raises:
        InputError: it can't be read, or is none of instances.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise InputError(
            f"annotations {path} are not there; correct `labels:` or `path:` in the data-set YAML"
        ) from None
    return _index(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=6)
def _index(path: Path, modified_ns: int, size: int) -> Index:
    found, of_image = Index(path), array("q")
    ids: dict[int, int] = {}
    kinds = set()
    for key, offset, length, value in records(path):
        kinds.add(key)
        try:
            if key == "images":
                ids[_whole(value["id"])] = len(found.files)
                found.files.append(_text(value["file_name"]))
                found.sizes.extend((_whole(value["height"]), _whole(value["width"])))
            elif key == "categories":
                found.categories[_whole(value["id"])] = _text(value["name"])
            elif key == "annotations":
                of_image.append(_whole(value["image_id"]))
                found.used.add(_whole(value["category_id"]))
                found.offsets.append(offset)
                found.lengths.append(length)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"annotations {path}: {key} at byte {offset:,}: {reason}; export them again") from None
    if missing := [key for key in ("images", "categories") if key not in kinds]:
        raise InputError(
            f"annotations {path} have no {' and no '.join(missing)}; expected COCO's JSON of instances, with images, "
            "annotations and categories"
        )
    _sort_by_image(found, of_image, ids)
    return found


def _sort_by_image(found: Index, of_image: "array[int]", ids: dict[int, int]) -> None:
    places = np.array([ids.get(each, -1) for each in of_image], np.int64)
    if (places < 0).any():
        lost = of_image[int(np.argmax(places < 0))]
        raise InputError(f"annotations {found.path}: one is of image_id {lost}, and no image has it; export them again")
    order = np.argsort(places, kind="stable")
    found.offsets = array("q", np.array(found.offsets, np.int64)[order].tobytes())
    found.lengths = array("i", np.array(found.lengths, np.int32)[order].tobytes())
    begins = np.searchsorted(places[order], np.arange(len(found.files) + 1))
    found.begins = array("i", begins.astype(np.int32).tobytes())


def _whole(value: Any) -> int:
    if not isinstance(value, int | str | float) or isinstance(value, bool) or abs(int(value)) > MOST_ID:
        raise ValueError(f"{str(value)[:40]!r} is no whole number")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{str(value)[:40]!r} is no name")
    try:
        return value if value.isascii() else value.encode("latin-1").decode("utf-8")  # see `records`
    except UnicodeError:
        return value


class CocoLabels:
    """Label maps drawn from a file's annotations: large ones first, so that what lies before them stays to be seen.

    Args:
        places: of each sample its image in the index.
    """

    coloured = False

    def __init__(self, index: Index, places: list[int], data_set: DataSet) -> None:
        self._index, self._places = index, places
        self._class_of, self._ground = class_table(data_set)

    def file(self, index: int) -> Path:
        return self._index.path

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8:
        """See `Labels.read`; the size is that which the file says."""
        found, place = self._index, self._places[index]
        height, width = found.sizes[2 * place : 2 * place + 2]
        if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
            raise InputError(f"{self._where(index)}: {width}x{height} is no size of an image; export the file again")
        label_HW = np.full((height, width), self._ground, np.uint8)
        for annotation in self._annotations(index):
            self._draw(label_HW, annotation, index)
        return label_HW

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

    def _draw(self, label_HW: UInt8, annotation: dict[str, Any], index: int) -> None:
        category, shape = int(annotation["category_id"]), annotation.get("segmentation")
        if category not in self._class_of:
            raise WrongIds(
                f"{self._where(index)} has category {category}, which `ids` of the data-set YAML does not name; add its "
                f"class, or `{category}: ignore`"
            )
        try:
            if isinstance(shape, dict):
                height, width = (int(length) for length in shape["size"])
                if (height, width) != label_HW.shape:
                    raise ValueError(f"its run lengths are of {width}x{height}")
                counts = shape["counts"]
                counts = decode_runs(counts) if isinstance(counts, str) else counts
                label_HW[from_runs(counts, height, width)] = self._class_of[category]
                return
            if not shape:
                raise ValueError("it has a box and no outline; label outlines, or leave the image out with `exclude`")
            for part in shape:
                points_N2 = np.array(part, np.float64).reshape(-1, 2)
                if len(points_N2) < LEAST_POINTS or not np.isfinite(points_N2).all():
                    raise ValueError(f"a polygon of {len(points_N2)} points, or of none that is a number")
                paint(label_HW, points_N2, self._class_of[category])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self._where(index)}, annotation {annotation.get('id')}: {error}") from None

    def _where(self, index: int) -> str:
        return f"annotations {self._index.path}, image {self._index.files[self._places[index]]}"


def _area(annotation: dict[str, Any]) -> float:
    area = annotation.get("area")
    return float(area) if isinstance(area, int | float) and math.isfinite(area) else math.inf


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

"""YOLO's polygons as outlines: a text file an image, in each line a class and x y x y ... as shares of width and height."""

from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.data.classes import class_table, thing_classes
from edgeprune.data.datasets import STEM, DataSet, FolderSplit
from edgeprune.data.folder import FolderSamples
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.layout import find_by_stem, folder_of
from edgeprune.data.outlines import Outline, Outlines
from edgeprune.data.pairs import Choice, listed, read_list
from edgeprune.data.polygons import LEAST_POINTS, Floats
from edgeprune.data.samples import UInt8, WrongIds

MOST_BYTES = 16 << 20  # of one text file
BOX = 4  # numbers of a line that is a box
ABOUT = 1e-3  # by which a point may lie outside the image: tools round


class YoloLabels:
    """Outlines from text files, in the order of their lines. An image whose file is not there, or is empty, is all
    background."""

    coloured = False

    def __init__(self, folder: Path, texts: list[str], data_set: DataSet) -> None:
        self._folder, self._texts = folder, texts
        self._class_of, self._ground = class_table(data_set)
        self._things = thing_classes(data_set)

    def file(self, index: int) -> Path:
        return self._folder / self._texts[index]

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8 | None:
        """See `Labels.read`."""
        outlines = self.outlines(index, size)
        return None if outlines is None else outlines.label()

    def outlines(self, index: int, size: tuple[int, int] | None) -> Outlines | None:
        """See `Labels.outlines`. A thing is called by the number of its line, from 1 on."""
        if size is None:
            return None
        path = self.file(index)
        each: list[Outline] = []
        lines = read_text(path, "label", MOST_BYTES).splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                category, points_N2 = _polygon(line, f"label {path}, line {number}")
                if category not in self._class_of:
                    raise WrongIds(
                        f"label {path}, line {number} has class {category}, which `ids` of the data-set YAML does not name; "
                        f"add it, or `{category}: ignore`"
                    )
                class_id, parts = self._class_of[category], [points_N2 * (size[1], size[0])]
                each.append(Outline(f"line {number}", class_id, class_id in self._things, parts, identity=number))
        return Outlines(f"label {path}", size, self._ground, each)

    def remarks(self) -> list[str]:
        return []


def _polygon(line: str, where: str) -> tuple[int, Floats]:
    first, *rest = line.split()
    try:
        category, numbers = int(first), np.array([float(word) for word in rest])
    except ValueError:
        raise InputError(f"{where} is no polygon; expected CLASS X Y X Y ..., found {line.strip()[:60]!r}") from None
    if len(numbers) == BOX:
        raise InputError(f"{where} is a box; expected a polygon, CLASS X Y X Y ...: export a data set of segmentation")
    if len(numbers) % 2 or len(numbers) < 2 * LEAST_POINTS:
        raise InputError(f"{where} has {len(numbers)} coordinates; expected {LEAST_POINTS} pairs of x and y, or more")
    if not (np.isfinite(numbers).all() and numbers.min() >= -ABOUT and numbers.max() <= 1 + ABOUT):
        raise InputError(
            f"{where} has coordinates from {numbers.min():g} to {numbers.max():g}; expected shares of width and height, 0 to 1"
        )
    return category, numbers.reshape(-1, 2)


def open_yolo(data_set: DataSet, spec: FolderSplit, choice: Choice) -> FolderSamples:
    """The images of a folder, with label maps drawn from the text files of their stems.

    Raises:
        InputError: a folder is missing, or there is no text file at all.
    """
    assert data_set.path is not None
    images, labels = data_set.path / spec.images, data_set.path / spec.labels
    files = find_by_stem(images, IMAGE_SUFFIXES, "images", labels)
    texts = find_by_stem(labels, (".txt",), "labels", images)
    if choice.file_list:
        files = listed(files, read_list(choice.file_list), choice.file_list, images)
    names = choice.of(sorted(files), images)
    folder = folder_of(labels)
    pattern = str(labels.relative_to(folder)) if folder != labels else f"{STEM}.txt"
    of_names = [texts.get(name) or pattern.replace(STEM, name) for name in names]
    if not any(name in texts for name in names):
        raise InputError(
            f"none of the {len(names)} images in {images} has a text file in {folder}; expected {folder / of_names[0]}, say"
        )
    return FolderSamples(
        folder_of(images), names, [files[name] for name in names], YoloLabels(folder, of_names, data_set)
    )

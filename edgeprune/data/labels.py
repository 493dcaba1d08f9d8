"""Label maps in files -> class ids, as the data set's YAML says what the files hold: ids, other ids, or colours."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import IGNORE, DataSet
from edgeprune.data.image import FORMATS, ids_of, open_upright
from edgeprune.data.samples import UInt8, WrongIds

LOSSLESS = ("PNG", "BMP", "TIFF")  # a JPEG of class ids would invent classes
LABEL_SUFFIXES = tuple(suffix for name in LOSSLESS for suffix in FORMATS[name])
IDS, COLOURS = ("1", "L", "P", "I", "I;16", "I;16B"), ("RGB", "RGBA")  # Pillow's modes
OTHER = 65_536  # in a table: an id or colour that the YAML does not speak of


class LabelReader:
    """Reads the label maps of one data set.

    Grey levels and palette indices are ids, never scaled: those of `names`, or those that `ids` names. Colours are looked
    up in the data set's own `palette`.
    """

    def __init__(self, data_set: DataSet) -> None:
        self._data_set = data_set
        self._class_of: npt.NDArray[np.int32] | None = None
        if data_set.ids:
            classes = {name: index for index, name in enumerate(data_set.names)} | {IGNORE: data_set.ignore_index}
            self._class_of = np.full(1 << 16, OTHER, np.int32)
            self._class_of[data_set.ignore_index] = data_set.ignore_index  # unless `ids` has another use for it
            for index, name in data_set.ids.items():
                self._class_of[index] = classes[name]
        self._colours, self._class_of_colour = self._colour_table()

    def read(self, path: Path) -> UInt8:
        """Class ids (H, W); an id that is no class comes as it is where `ids` is not given, for the lint to count.

        Raises:
            InputError: the file is missing, cut off or lossy; it has an id or a colour that the YAML does not speak of.
        """
        image = open_upright(path, "label", LOSSLESS)
        if image.mode in COLOURS:
            return self._from_colours(image, path)
        if image.mode not in IDS:
            raise InputError(
                f"label {path} is a {image.mode!r} image; expected class ids (grey or palette) or colours (RGB)"
            )
        ids_HW = ids_of(image)
        low, high = int(ids_HW.min()), int(ids_HW.max())
        if low < 0 or high >= OTHER:
            raise WrongIds(f"label {path} has ids from {low} to {high}; expected 0 to {OTHER - 1}: write them anew")
        if self._class_of is None:
            if high > 255:
                raise WrongIds(
                    f"label {path} has ids from {low} to {high}; expected 0 to 255: name the class of each in `ids` of the "
                    "data-set YAML"
                )
            return ids_HW.astype(np.uint8)
        label_HW = self._class_of[ids_HW]
        if (label_HW == OTHER).any():
            stray_HW = label_HW == OTHER
            raise WrongIds(
                f"label {path} has id {ids_HW[stray_HW][0]} in {np.count_nonzero(stray_HW)} pixels, which `ids` of the "
                f"data-set YAML does not name; add its class, or `{ids_HW[stray_HW][0]}: {IGNORE}`"
            )
        return label_HW.astype(np.uint8)

    def _colour_table(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Colours as 24-bit numbers, ascending, and the class of each."""
        classes: dict[int, int] = {}
        for index, (red, green, blue) in enumerate(self._data_set.palette):
            classes[red << 16 | green << 8 | blue] = index
        for red, green, blue in self._data_set.ignore_colours:
            classes[red << 16 | green << 8 | blue] = self._data_set.ignore_index
        table_2K = np.array(sorted(classes.items()), np.int32).T
        return table_2K[0], table_2K[1]

    def _from_colours(self, image: Image.Image, path: Path) -> UInt8:
        data_set = self._data_set
        if not data_set.coloured:
            raise InputError(
                f"label {path} has colours in place of ids; give the colour of each class in `palette` of the YAML"
            )
        if len(self._colours) < len(data_set.palette) + len(data_set.ignore_colours):
            raise InputError(
                f"label {path} has colours, and two of `palette` and `ignore_colours` are equal; give each its own"
            )
        red_HW, green_HW, blue_HW = np.moveaxis(np.asarray(image)[..., :3].astype(np.int32), -1, 0)
        colour_HW = red_HW << 16 | green_HW << 8 | blue_HW
        place_HW = np.searchsorted(self._colours, colour_HW).clip(max=len(self._colours) - 1)
        stray_HW = self._colours[place_HW] != colour_HW
        if stray_HW.any():
            row, column = (int(places[0]) for places in np.nonzero(stray_HW))
            colour = int(colour_HW[row, column])
            raise WrongIds(
                f"label {path} has colour [{colour >> 16}, {colour >> 8 & 255}, {colour & 255}] in "
                f"{np.count_nonzero(stray_HW)} pixels, the first at x {column}, y {row}, which is none of `palette`; correct "
                "`palette`, or add it to `ignore_colours` of the data-set YAML"
            )
        return self._class_of_colour[place_HW].astype(np.uint8)


def is_coloured(path: Path) -> bool:
    """Whether a label map holds colours in place of ids.

    Raises:
        InputError: see `LabelReader.read`.
    """
    return open_upright(path, "label", LOSSLESS).mode in COLOURS

"""A contact sheet of labelled frames: what a data set holds, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import Instances
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.panel_grid import GROUND_RGB, TEXT_RGB, PanelGrid
from edgeprune.data.samples import Sample, UInt8

COLUMNS, TILE_PX, GAP_PX = 4, 420, 14
COLOUR_SHARE = 0.55  # of a class's colour in a pixel
IGNORED_SHARE = 0.3  # of the frame's own light where nothing is learnt
DIM_RGB = (150, 152, 158)
TITLE_PX, NAME_PX, CLASS_PX = 24, 14, 15
NAMED_SHARE = 0.015  # of a tile: a smaller region has no name in it
LEAST_DEPTH = 2  # cells from a region's border to its middle
HATCH_PX, HATCH_RGB = 9, (120, 122, 128)
CELLS = 96  # of a label map in which room for a name is looked for, along its longer side


@dataclass(frozen=True)
class Tile:
    """A frame at the sheet's size, with its labels.

    Attributes:
        thing_HW: the number of the thing that is seen in each pixel, from 1 on; 0 where none is.
        of_class_C: how many things the frame has of each class; None where labels do not tell them apart.
    """

    name: str
    image: Image.Image
    label_HW: UInt8
    thing_HW: npt.NDArray[np.int32]
    of_class_C: npt.NDArray[np.int64] | None


def draw_sheet(samples: Sequence[Sample], data_set: DataSet, title: str) -> Image.Image:
    """Frames with their labels in colour and by name, side by side under a title and over a legend with each class's share; of
    samples with things a line around each, and how many there are of each class."""
    tiles = [_tile(sample) for sample in samples]
    columns = min(COLUMNS, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.image.height for tile in row) + round(1.9 * NAME_PX) for row in rows]
    grid = PanelGrid(max(columns, 2), heights, TILE_PX, GAP_PX, top=round(2.4 * TITLE_PX))
    legend = _legend(tiles, data_set, grid.width)
    sheet = grid.ground(below=legend.height + GAP_PX)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX, grid.top / 2), title, TEXT_RGB, _font(TITLE_PX), anchor="lm")
    for line, row in enumerate(rows):
        for column, tile in enumerate(row):
            left, top = grid.at(line, column)
            sheet.paste(_painted(tile, data_set), (left + (TILE_PX - tile.image.width) // 2, top))
            at = (left, top + heights[line] - round(0.8 * NAME_PX))
            draw.text(at, _shortened(tile.name, TILE_PX, _font(NAME_PX)), DIM_RGB, _font(NAME_PX), anchor="lm")
    sheet.paste(legend, (0, grid.bottom))
    return sheet


def _tile(sample: Sample) -> Tile:
    height, width = sample.label_HW.shape
    scale = min(TILE_PX / width, 1.2 * TILE_PX / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(sample.image_HW3).resize(size, Image.Resampling.BICUBIC)
    label_HW = resize_nearest(sample.label_HW, size[1], size[0]).astype(np.uint8)
    things = sample.things
    if things is None:
        return Tile(sample.name, image, label_HW, np.zeros(label_HW.shape, np.int32), None)
    return Tile(
        sample.name,
        image,
        label_HW,
        numbered(things.resized(*label_HW.shape)),
        np.bincount(things.classes_I[~things.crowd_I], minlength=256),
    )


def numbered(things: Instances) -> npt.NDArray[np.int32]:
    """Each thing's pixels have its number, from 1 on: a smaller one lies on a larger one."""
    thing_HW = np.zeros(things.size, np.int32)
    for index in np.argsort(-things.areas(), kind="stable").tolist():
        thing_HW[things.mask(index)] = index + 1
    return thing_HW


def _painted(tile: Tile, data_set: DataSet) -> Image.Image:
    """The frame under its classes' colours, with a dark line between classes and a light one around things; what is ignored is
    dark."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(data_set.palette)] = data_set.palette
    picture = Image.blend(tile.image, Image.fromarray(table[tile.label_HW]), COLOUR_SHARE)
    ignored = Image.fromarray((tile.label_HW == data_set.ignore_index).astype(np.uint8) * 255)
    picture.paste(_hatched(tile.image), mask=ignored)
    for map_HW, rgb in ((tile.label_HW, GROUND_RGB), (tile.thing_HW, TEXT_RGB)):
        border_HW = np.zeros(map_HW.shape, np.uint8)
        border_HW[:, 1:] |= map_HW[:, 1:] != map_HW[:, :-1]
        border_HW[1:] |= map_HW[1:] != map_HW[:-1]
        picture.paste(rgb, mask=Image.fromarray(border_HW * 140))
    _write_names(picture, tile.label_HW, data_set.names)
    return picture


def _hatched(image: Image.Image) -> Image.Image:
    """Darkened, under slanted lines: a class may be black, too."""
    dark = image.point(lambda level: level * IGNORED_SHARE)
    draw = ImageDraw.Draw(dark)
    for start in range(-image.height, image.width, HATCH_PX):
        draw.line((start, image.height, start + image.height, 0), HATCH_RGB)
    return dark


def _write_names(picture: Image.Image, label_HW: UInt8, names: Sequence[str]) -> None:
    """The name of each class where it has most room; one that would lie on another is left out."""
    draw, font = ImageDraw.Draw(picture), _font(CLASS_PX)
    taken: list[tuple[float, float, float]] = []
    for index, (x, y) in _places(label_HW, len(names)).items():
        half = font.getlength(names[index]) / 2 + 4
        x = min(max(x, half), max(half, picture.width - half))
        y = min(max(y, CLASS_PX), picture.height - CLASS_PX)
        if all(abs(y - row) > 1.2 * CLASS_PX or abs(x - column) > half + other for column, row, other in taken):
            draw.text((x, y), names[index], TEXT_RGB, font, anchor="mm", stroke_width=2, stroke_fill=GROUND_RGB)
            taken.append((x, y, half))


def _places(label_HW: UInt8, classes: int) -> dict[int, tuple[float, float]]:
    """Where the name of each class has most room, the largest class first: what is left last where its region is eaten from its
    border. None for a class that has no room for it."""
    height, width = label_HW.shape
    scale = max(height, width) / CELLS
    small_hw = resize_nearest(label_HW, max(1, round(height / scale)), max(1, round(width / scale)))
    found = {}
    counts = np.bincount(small_hw.ravel(), minlength=256)
    for index in np.argsort(-counts, kind="stable").tolist():
        if index < classes and counts[index] >= NAMED_SHARE * small_hw.size:
            depth, y, x = _last_left(small_hw == index)
            if depth >= LEAST_DEPTH:
                found[index] = (x + 0.5) * scale, (y + 0.5) * scale
    return found


def _last_left(region_hw: npt.NDArray[np.bool_]) -> tuple[int, float, float]:
    """How often a region can be eroded before it vanishes, and row and column of the middle of what it leaves; beyond the
    border is outside."""
    left, depth = Image.fromarray(np.pad(region_hw, 1).astype(np.uint8) * 255), 0
    while (eaten := left.filter(ImageFilter.MinFilter(3))).getbbox():
        left, depth = eaten, depth + 1
    rows, columns = np.nonzero(np.asarray(left)[1:-1, 1:-1])
    middle = len(rows) // 2
    return depth, float(rows[middle]), float(columns[middle])


def _legend(tiles: Sequence[Tile], data_set: DataSet, width: int) -> Image.Image:
    """Chips of the classes, most frequent first, each one's share of the pixels that are shown, and of things how many are."""
    counts = sum((np.bincount(tile.label_HW.ravel(), minlength=256) for tile in tiles), np.zeros(256, np.int64))
    shares = counts / max(1, int(counts.sum()))
    order = sorted(range(len(data_set.names)), key=lambda index: -counts[index])
    told = [tile.of_class_C for tile in tiles if tile.of_class_C is not None]
    things_C = sum(told, np.zeros(256, np.int64))
    entries = [
        (
            data_set.palette[index],
            f"{data_set.names[index]}{f' {things_C[index]:,},' if things_C[index] else ''} {shares[index]:.1%}",
        )
        for index in order
    ]
    if counts[data_set.ignore_index]:
        entries.append(((60, 62, 66), f"ignored {shares[data_set.ignore_index]:.1%}"))
    font, line_px = _font(CLASS_PX), round(1.7 * CLASS_PX)
    column_px = max(round(max(font.getlength(text) for _, text in entries) + 3 * CLASS_PX), 1)
    columns = max(1, (width - 2 * GAP_PX) // column_px)
    lines = -(-len(entries) // columns)
    legend = Image.new("RGB", (width, lines * line_px), GROUND_RGB)
    draw = ImageDraw.Draw(legend)
    for place, (colour, text) in enumerate(entries):
        line, column = divmod(place, columns)
        left, middle = GAP_PX + column * column_px, (line + 0.5) * line_px
        draw.rounded_rectangle(
            (left, middle - CLASS_PX / 2, left + CLASS_PX, middle + CLASS_PX / 2), 3, colour, outline=DIM_RGB
        )
        draw.text((left + 1.5 * CLASS_PX, middle), text, TEXT_RGB, font, anchor="lm")
    return legend


def _font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    return ImageFont.load_default(size=size)


def _shortened(text: str, width: int, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """The end of a long name: that is where the names of one folder differ."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"

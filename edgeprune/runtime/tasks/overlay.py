"""The picture that a run shows: the frame, what was found in it in colour, a status line above and a legend below.

Colour and blending are Pillow's, in C: 3 ms a frame of 768x432 in all on one x86 core, where numpy took 9.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgeprune.runtime.engines.engine import UInt8

COLOUR_SHARE = 0.5  # of a class's colour in a pixel
BAR_RGB, TEXT_RGB = (16, 18, 22), (240, 240, 236)
BAR_SHARE = 0.72  # of the bar's colour in a pixel under it
LEAST_FONT, SMALL = 9, 0.75  # pixels; of the size of line and legend, what is written beside them
LEGEND_SHARE = 0.2  # a legend that would take more of the height is left out
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Layer = Callable[[Image.Image], None]  # draws over a picture


class Overlay:
    """Draws over frames of any size; what depends on the size is drawn once per size. Several threads may draw at a time.

    Args:
        names: the classes, in the order of their ids.
        palette: their colours, RGB.
    """

    def __init__(self, names: Sequence[str], palette: Sequence[tuple[int, int, int]]):
        self._names, self._palette = names, palette
        flat = [channel for colour in palette for channel in colour]
        # an id without a class, such as one outside a region, is black: the frame shows through, dimmed
        self._flat_palette = flat + [0] * (3 * 256 - len(flat))
        self._layout: Layout | None = None

    def draw(self, image_HW3: UInt8, label_HW: UInt8, status: str, layers: Iterable[Layer] = ()) -> UInt8:
        """The frame (uint8 RGB) with its labels (uint8, same height and width) and a status line; a new image. `layers`: drawn
        over the labels, under line and legend."""
        labels = Image.fromarray(label_HW, mode="L")
        labels.putpalette(self._flat_palette)
        return self._finish(
            Image.blend(Image.fromarray(image_HW3), labels.convert("RGB"), COLOUR_SHARE), status, layers
        )

    def draw_over(self, image_HW3: UInt8, status: str, layers: Iterable[Layer]) -> UInt8:
        """The frame with what the layers draw over it, under a status line and the legend; a new image."""
        return self._finish(Image.fromarray(image_HW3), status, layers)

    def _finish(self, picture: Image.Image, status: str, layers: Iterable[Layer]) -> UInt8:
        for layer in layers:
            layer(picture)
        layout = self.layout(picture.height, picture.width)
        layout.bar.put(picture, 0, status)
        if layout.has_legend:
            layout.legend.put(picture, picture.height - layout.legend.height)
        return np.asarray(picture)

    def caption(self, image_HW3: UInt8, text: str) -> UInt8:
        """A picture of that size (uint8 RGB) with a line of text alone; a new image."""
        picture = Image.fromarray(image_HW3)
        self.layout(picture.height, picture.width).bar.put(picture, 0, text)
        return np.asarray(picture)

    def layout(self, height: int, width: int) -> "Layout":
        """What is drawn over every frame of that size."""
        layout = self._layout
        if layout is None or layout.size != (width, height):
            layout = self._layout = self._lay_out(width, height)
        return layout

    def _lay_out(self, width: int, height: int) -> "Layout":
        size = max(LEAST_FONT, min(height // 28, width // 40))
        font, small = (ImageFont.load_default(each) for each in (size, max(LEAST_FONT, round(SMALL * size))))
        entries: list[list[tuple[int, str]]] = [[]]
        left = 0.0
        for index, name in enumerate(self._names):
            length = _entry_px(font, name)
            if entries[-1] and left + length > width:
                entries.append([])
                left = 0.0
            entries[-1].append((index, name))
            left += length
        legend = Bar(width, len(entries), font)
        for line, row in enumerate(entries):
            left = font_px(font) / 2
            for index, name in row:
                legend.chip(left, line, self._palette[index], name)
                left += _entry_px(font, name)
        return Layout((width, height), small, Bar(width, 1, font), legend)


def _entry_px(font: Font, name: str) -> float:
    """Width of a legend's entry: chip, gap, name, gap."""
    return font.getlength(name) + 2.2 * font_px(font)


def font_px(font: Font) -> float:
    """Size of a font; Pillow without FreeType has only one, of 11 pixels."""
    return float(getattr(font, "size", 11))


class Bar:
    """A dark translucent strip across the picture that holds lines of text."""

    def __init__(self, width: int, lines: int, font: Font):
        self._font, self._font_px = font, font_px(font)
        self._line_px = round(1.5 * self._font_px)
        self.height = lines * self._line_px
        self._ground = Image.new("RGB", (width, self.height), BAR_RGB)
        # ink that lies on the bar untouched by what is under it
        self._ink = Image.new("RGB", (width, self.height))
        self._mask = Image.new("L", (width, self.height))

    def chip(self, left: float, line: int, colour: tuple[int, int, int], name: str) -> None:
        """A square of a class's colour and its name, for good."""
        middle, half = (line + 0.5) * self._line_px, 0.4 * self._font_px
        box = (left, middle - half, left + 2 * half, middle + half)
        ImageDraw.Draw(self._ink).rectangle(box, colour)
        ImageDraw.Draw(self._mask).rectangle(box, 255)
        at = (left + 1.2 * self._font_px, middle)
        ImageDraw.Draw(self._ink).text(at, name, TEXT_RGB, self._font, anchor="lm")
        ImageDraw.Draw(self._mask).text(at, name, 255, self._font, anchor="lm")

    def put(self, picture: Image.Image, top: int, text: str = "") -> None:
        """Lays the bar over the picture, with a line of text for this frame."""
        under = picture.crop((0, top, picture.width, top + self.height))
        strip = Image.blend(under, self._ground, BAR_SHARE)
        strip.paste(self._ink, mask=self._mask)
        if text:
            at = (self._font_px / 2, self._line_px / 2)
            ImageDraw.Draw(strip).text(at, text, TEXT_RGB, self._font, anchor="lm")
        picture.paste(strip, (0, top))


class Layout(NamedTuple):
    """What is drawn over every frame of a size, (width, height): the bar for the status line, and the legend.

    Attributes:
        small: the font of what else is written.
    """

    size: tuple[int, int]
    small: Font
    bar: Bar
    legend: Bar

    @property
    def has_legend(self) -> bool:
        """Whether there is room for it."""
        return self.legend.height <= LEGEND_SHARE * self.size[1]

    @property
    def rows(self) -> tuple[int, int]:
        """The first row of the picture under the status line, and the first that the legend takes."""
        return self.bar.height, self.size[1] - (self.legend.height if self.has_legend else 0)

"""Things drawn over a frame: each with a light fill and an outline in a shade of its class's colour, its name and its score.

Things of a class differ in their shade, counted from left to right: so a thing keeps its own from frame to frame while its
neighbours stay.

Shapes: c d pixels of the rectangle that holds a thing.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from edgeprune.data.instances import Mask
from edgeprune.runtime.tasks.overlay import Layout, font_px
from edgeprune.runtime.tasks.things import Thing

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
FILL = 90  # of 255: how much of the colour a pixel inside gets; on the outline all
WIDE_PX = 600  # so many pixels of a picture's width give an outline one more: 2 of 640, 3 of 1280
SHADES = (
    0.0,
    0.45,
    0.2,
    0.65,
    0.32,
)  # of things of a class: how far from its colour to white, or of a light one to black
LEAST_LIGHT, LIGHT = 95, 140  # of a colour, 0 to 255: one that is darker is not seen on a street; one that is light
TO_BLACK = 0.6  # of a way to white, as long as that to black is
INSIDE_FROM = 3  # so many lines high a box has its name inside, where there is no room above
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_things(picture: Image.Image, things: Sequence[Thing], palette: Sequence[Colour], layout: Layout) -> None:
    """Draws them in place, the best over the others; then the names, the best first, where there is room."""
    colours = shades(things, palette)
    outline_px = 1 + picture.width // WIDE_PX
    for thing, colour in reversed(list(zip(things, colours, strict=True))):
        top, left, mask_cd = thing.part
        if mask_cd.size:
            ink_cd = np.where(mask_cd & ~eroded(mask_cd, outline_px), np.uint8(255), mask_cd * np.uint8(FILL))
            picture.paste(colour, (left, top), Image.fromarray(ink_cd))
    taken: list[Rectangle] = []
    for thing, colour in zip(things, colours, strict=True):
        _write_name(picture, thing, colour, layout, taken)


def shades(things: Sequence[Thing], palette: Sequence[Colour]) -> list[Colour]:
    """The colour of each thing."""
    colours: dict[int, Colour] = {}
    of_class: Counter[int] = Counter()
    for place in sorted(range(len(things)), key=lambda place: things[place].box[0]):
        class_id = things[place].class_id
        colours[place] = _shade(palette[class_id], SHADES[of_class[class_id] % len(SHADES)])
        of_class[class_id] += 1
    return [colours[place] for place in range(len(things))]


def _shade(colour: Colour, share: float) -> Colour:
    """A colour so far on the way to white, or to black; never too dark to be seen."""
    seen = _lifted(colour)
    if _light(seen) > LIGHT:
        return _lifted(_mixed(seen, BLACK, TO_BLACK * share))
    return _mixed(seen, WHITE, share)


def _lifted(colour: Colour) -> Colour:
    """A colour that is light enough to be seen: of the same hue, and where that is not enough, on the way to white."""
    if (light := _light(colour)) >= LEAST_LIGHT:
        return colour
    scale = min(LEAST_LIGHT / max(light, 1), 255 / max(1, *colour))
    red, green, blue = (min(255, round(scale * channel)) for channel in colour)
    light = _light((red, green, blue))
    return _mixed((red, green, blue), WHITE, max(0.0, LEAST_LIGHT - light) / (255 - light))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _light(colour: Colour) -> float:
    """How light it looks, 0 to 255 (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def eroded(mask_cd: Mask, pixels: int) -> Mask:
    """A mask without so many pixels along its border; the border of the rectangle itself is none."""
    for _ in range(pixels):
        inner_cd = mask_cd.copy()
        inner_cd[1:] &= mask_cd[:-1]
        inner_cd[:-1] &= mask_cd[1:]
        inner_cd[:, 1:] &= mask_cd[:, :-1]
        inner_cd[:, :-1] &= mask_cd[:, 1:]
        mask_cd = inner_cd
    return mask_cd


def _write_name(picture: Image.Image, thing: Thing, colour: Colour, layout: Layout, taken: list[Rectangle]) -> None:
    """Name and score on a ground of the thing's colour: above its box, else at its top in one that is high enough, else below
    it; nowhere where others are written there already."""
    text = f"{thing.name} {100 * thing.score:.0f}%"
    high = round(1.3 * font_px(layout.small))
    wide = layout.small.getlength(text) + 0.6 * font_px(layout.small)
    first, end = layout.rows
    box_left, box_top, _, box_bottom = thing.box
    left = max(0.0, min(box_left, picture.width - wide))
    inside = [max(box_top, first)] if box_bottom - box_top >= INSIDE_FROM * high else []
    for top in (box_top - high, *inside, box_bottom):
        place = (left, top, left + wide, top + high)
        if first <= top and top + high <= end and not any(_overlap(place, other) for other in taken):
            taken.append(place)
            ink = ImageDraw.Draw(picture)
            ink.rectangle((left, top, left + wide - 1, top + high - 1), colour)
            at = (left + 0.3 * font_px(layout.small), top + high / 2)
            ink.text(at, text, BLACK if _light(colour) > LIGHT else WHITE, layout.small, anchor="lm")
            return


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

"""The overlay of the newest frame as a JPEG: drawn when somebody asks, once per frame however many do."""

import io
from collections.abc import Mapping
from typing import NamedTuple

from PIL import Image

from edgeprune.runtime.page.publisher import Publisher, Shown

QUALITY = 80
MAPPED_S = 3.0  # a viewer who wants tokens asks for those of so long; one who is gone costs no longer
MOST_PX = 1280  # of the longer side; a larger picture is halved, or divided by three, ...


class Picture(NamedTuple):
    """A frame as viewers get it.

    Attributes:
        number: of the frame.
        jpeg: the file.
        pixels: how many each class id has, 256 of them.
        palette: the colour of each class, RGB, by its id.
        mapped: whether it shows what became of the tokens.
        counts: how many things of each class it has, by its name; None where they are not counted.
    """

    number: int
    jpeg: bytes
    pixels: tuple[int, ...]
    palette: tuple[tuple[int, int, int], ...]
    mapped: bool
    counts: Mapping[str, int] | None


class Pictures:
    """Draws for the server's thread; one thread at a time.

    Attributes:
        drawn: how many there were.
        last: the newest that was drawn; None before the first.
    """

    def __init__(self, publisher: Publisher):
        self._publisher = publisher
        self.drawn = 0
        self.last: Picture | None = None
        self._made: dict[bool, Picture] = {}  # the newest without and with tokens

    def newest(self, tokens: bool = False) -> Picture | None:
        """That of the newest frame; None before the first.

        Args:
            tokens: with what the first decision made of its tokens. The loop is asked for it, so the first one or two have
                nothing of it yet.
        """
        if tokens:
            self._publisher.map_tokens(MAPPED_S)
        shown, made = self._publisher.shown, self._made.get(tokens)
        if shown is None or (made and made.number == shown.number):
            return made
        self.last = self._made[tokens] = self._draw(shown, tokens and shown.result.facts.token_map is not None)
        return self.last

    def _draw(self, shown: Shown, tokens: bool) -> Picture:
        picture = Image.fromarray(shown.result.overlay(tokens=True) if tokens else shown.result.overlay())
        if (factor := -(-max(picture.size) // MOST_PX)) > 1:
            picture = picture.reduce(factor)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=QUALITY, comment=f"frame {shown.number}")
        pixels = tuple(Image.fromarray(shown.result.labels).histogram())
        self.drawn += 1
        palette = tuple((red, green, blue) for red, green, blue in shown.result.palette)
        return Picture(shown.number, data.getvalue(), pixels, palette, tokens, shown.result.counts())

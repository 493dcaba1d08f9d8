"""The overlay of the newest frame as a JPEG: drawn when somebody asks, once per frame however many do."""

import io
from typing import NamedTuple

from PIL import Image

from edgeprune.runtime.page.publisher import Publisher

QUALITY = 80
MOST_PX = 1280  # of the longer side; a larger picture is halved, or divided by three, ...


class Picture(NamedTuple):
    """A frame as viewers get it.

    Attributes:
        number: of the frame.
        jpeg: the file.
        pixels: how many each class id has, 256 of them.
        palette: the colour of each class, RGB, by its id.
    """

    number: int
    jpeg: bytes
    pixels: tuple[int, ...]
    palette: tuple[tuple[int, int, int], ...]


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

    def newest(self) -> Picture | None:
        """That of the newest frame; None before the first."""
        shown = self._publisher.shown
        if shown is None or (self.last and self.last.number == shown.number):
            return self.last
        picture = Image.fromarray(shown.result.overlay())
        if (factor := -(-max(picture.size) // MOST_PX)) > 1:
            picture = picture.reduce(factor)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=QUALITY, comment=f"frame {shown.number}")
        pixels = tuple(Image.fromarray(shown.result.labels).histogram())
        self.drawn += 1
        self.last = Picture(
            shown.number,
            data.getvalue(),
            pixels,
            tuple((red, green, blue) for red, green, blue in shown.result.palette),
        )
        return self.last

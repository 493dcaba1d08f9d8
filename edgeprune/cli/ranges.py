"""How large an option's number may be: far more than anybody needs, and nothing that a machine chokes on."""

import math
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.bundle.runtime_spec import MOST_THREADS

SIDE_PX = (32, 4096)
# of a frame: the attention products of as many patches of 16x16 are 4 bytes x 16,384^2 = 1 GB a head
PIXELS = 4096 * 1024


class Amount(click.FloatRange):
    """A number within bounds; click's own range lets `nan` through, which is neither below nor above anything.

    Args:
        of: what it counts, as a message calls it.
    """

    def __init__(self, of: str, least: float, most: float, min_open: bool = False) -> None:
        super().__init__(least, most, min_open=min_open)
        self.name = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        amount = super().convert(value, param, ctx)
        if not math.isfinite(amount):
            self.fail(f"{amount} is no number of {self.name}; write one as 2.5", param, ctx)
        return amount


FRAMES = click.IntRange(1, 1_000_000_000)
ROUNDS = click.IntRange(1, 10_000)
THREADS = click.IntRange(1, MOST_THREADS)
CALIBRATION_FRAMES = click.IntRange(8, 2_000)
A_WHILE = Amount("seconds", 0, 3_600)
A_WINDOW = Amount("seconds", 0.1, 3_600)
A_RUN = Amount("seconds", 0, 10 * 365 * 86_400, min_open=True)
LATENCY = Amount("milliseconds", 0, 3_600_000, min_open=True)
POINTS = Amount("points", 0, 100)


def parse_size(text: str, patch: int = 16) -> tuple[int, int]:
    """`"384x512"` -> (384, 512), for a model of patches of so many pixels.

    Raises:
        InputError: it isn't of that form, no multiple of a patch, or too small or too large for any model.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"size {text[:80]!r} is not HEIGHTxWIDTH in pixels; write it as 384x512")
    height, width = int(parts[0]), int(parts[1])
    least, most = SIDE_PX
    if not (least <= min(height, width) and max(height, width) <= most) or height * width > PIXELS:
        raise InputError(
            f"size {text}: sides of {least} to {most} pixels, at most {PIXELS:,} pixels in all; write it as 384x512"
        )
    if height % patch or width % patch:
        written = f"{24 * patch}x{32 * patch}"
        raise InputError(f"size {text}: sides in multiples of {patch} are expected; write it as {written}")
    return height, width

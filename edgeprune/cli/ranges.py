"""How large an option's number may be: far more than anybody needs, and nothing that a machine chokes on."""

import math
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.bundle.runtime_spec import MOST_THREADS

SIDE_PX = (32, 4096)
# of a frame: the attention products of as many patches of 16x16 are 4 bytes x 16,384^2 = 1 GB a head
PIXELS = 4096 * 1024


class Seconds(click.FloatRange):
    """Seconds within bounds; click's own range lets `nan` through, which is neither below nor above anything."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{seconds} is no number of seconds; write one as 2.5", param, ctx)
        return seconds


FRAMES = click.IntRange(1, 1_000_000_000)
ROUNDS = click.IntRange(1, 10_000)
THREADS = click.IntRange(1, MOST_THREADS)
CALIBRATION_FRAMES = click.IntRange(8, 2_000)
A_WHILE = Seconds(0, 3_600)
A_RUN = Seconds(0, 10 * 365 * 86_400, min_open=True)


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

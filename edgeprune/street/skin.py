"""Indexed texels and the skins that colour them.

Every texture and sprite is stored once, as indexed texels, and coloured per object: a texel is one byte,
`part * 32 + shade`, with part 0 = transparent, parts 1..7 = what the drawing calls paint, glass, trunk ..., and
shade 0..31 = how light that spot is (NEUTRAL leaves the part's colour as it is). A `Skin` gives the seven parts their
colours and class labels. Under a light it becomes a table of 256 packed pixels, so drawing is one table look-up and a
pixel's label comes from the very same texel as its colour.

CamVid's annotators outline a railing, a winter tree or a bicycle wheel as one region, gaps included. The texel GAP is
such a gap: it shows what is behind it and carries the label of part 1.

A packed pixel is a little-endian uint32: red, green, blue, label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHADES = 32
NEUTRAL = 18
GAP = 1
RAMP = ((np.arange(SHADES) + 2.0) / (NEUTRAL + 2.0)).astype(np.float32)  # brightness factor of each shade

Colour = tuple[float, float, float]  # red, green, blue; 0..255


def texels(part: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Indexed texels from a part map (0..7) and a shade map (any range, clipped to 0..31); part 0 is transparent."""
    packed = part.astype(np.uint8) * SHADES + np.clip(shade, 0, SHADES - 1).astype(np.uint8)
    packed[part == 0] = 0
    return packed


def close_gaps(image: np.ndarray, radius: int, share: float) -> np.ndarray:
    """Mark as GAP the transparent texels whose neighbourhood of (2 * radius + 1)**2 texels is painted to `share`."""
    padded = np.pad((image > 0).astype(np.float32), radius + 1)
    total = padded.cumsum(axis=0).cumsum(axis=1)
    span = 2 * radius + 1
    inner = total[:, span:] - total[:, :-span]
    painted = (inner[span:] - inner[:-span])[: image.shape[0], : image.shape[1]] / span**2
    return np.where((image == 0) & (painted >= share), GAP, image).astype(np.uint8)


def paint(canvas: np.ndarray, pixels: np.ndarray, indexed: np.ndarray, visible: np.ndarray, gaps: bool) -> None:
    """Write `pixels` over `canvas` where `visible`; of GAP texels, where there are `gaps`, the label alone."""
    if gaps:
        gap = visible & (indexed == GAP)
        np.copyto(canvas, (canvas & 0x00FFFFFF) | (pixels & 0xFF000000), where=gap)
        visible &= ~gap
    np.copyto(canvas, pixels, where=visible)


class Skin:
    """Colours and labels of the parts of one object.

    `colours` and `labels` list parts 1, 2, ...; parts not listed repeat the last one.
    """

    __slots__ = ("base", "template")

    def __init__(self, colours: Sequence[Colour], labels: Sequence[int] | int) -> None:
        parts = [colours[0], *colours] + [colours[-1]] * (7 - len(colours))  # part 0 is never painted
        self.base = (np.array(parts, np.float32)[:, None, :] * RAMP[:, None]).reshape(256, 3)
        self.template = np.zeros((256, 4), np.uint8)
        if isinstance(labels, int):
            self.template[:, 3] = labels
        else:
            listed = [labels[0], *labels] + [labels[-1]] * (7 - len(labels))
            self.template[:, 3] = np.repeat(np.array(listed, np.uint8), SHADES)

    def table(self, gain: np.ndarray, veil: np.ndarray) -> np.ndarray:
        """256 packed pixels: colour * gain + veil, clipped. `gain` and `veil` are (3,) float32."""
        table = self.template.copy()
        lit = self.base * gain
        lit += veil
        np.minimum(lit, 255.0, out=lit)
        table[:, :3] = lit
        return table.view(np.uint32).ravel()

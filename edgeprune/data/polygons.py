"""Polygons and run lengths -> the pixels that they cover.

A pixel is inside where its centre is, by the even-odd rule: a hole that is drawn as a bridge to the outline stays one.
(Pillow's `polygon` cuts coordinates to whole pixels and paints the border too, which makes objects up to a pixel fatter.
pycocotools rounds an outline at five times the size: of 1,771 labelled damages of cars it draws 0.11% of the area otherwise, as
much more as less, all but 18 pixels of it on the border. Run lengths are exact.)
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeprune.data.samples import UInt8

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LEAST_POINTS = 3


def paint(label_HW: UInt8, points_N2: Floats, index: int) -> None:
    """Gives the pixels within a polygon the class `index`.

    Args:
        points_N2: x, y in pixels; (0, 0) is the corner of the first pixel.
    """
    height, width = label_HW.shape
    below_N2 = np.roll(points_N2, -1, axis=0)
    y_2N = np.sort(np.stack((points_N2[:, 1], below_N2[:, 1])), axis=0)
    # the rows whose centre line an edge crosses
    first_N, last_N = np.clip(np.ceil(y_2N - 0.5), 0, height).astype(np.int64)
    counts_N = last_N - first_N
    edge_E = np.repeat(np.arange(len(points_N2)), counts_N)
    if not len(edge_E):
        return
    row_E = np.arange(len(edge_E)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N) + first_N[edge_E]
    along_E = (row_E + 0.5 - points_N2[edge_E, 1]) / (below_N2[edge_E, 1] - points_N2[edge_E, 1])
    x_E = points_N2[edge_E, 0] + along_E * (below_N2[edge_E, 0] - points_N2[edge_E, 0])
    column_E = np.clip(np.ceil(x_E - 0.5), 0, width).astype(np.int64)  # the first pixel on the other side
    top, bottom = int(row_E.min()), int(row_E.max()) + 1
    left, right = int(column_E.min()), int(column_E.max()) + 1
    crossings_hw = np.bincount(
        (row_E - top) * (right - left) + column_E - left, minlength=(bottom - top) * (right - left)
    )
    inside_hw = np.cumsum(crossings_hw.reshape(bottom - top, right - left), axis=1) % 2 == 1
    label_HW[top:bottom, left : min(right, width)][inside_hw[:, : width - left]] = index


def from_runs(counts: Sequence[int], height: int, width: int) -> Mask:
    """COCO's run lengths: pixels outside, inside, outside ... down the columns.

    Raises:
        ValueError: they don't cover the image.
    """
    runs = np.asarray(counts, dtype=np.int64)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"its runs cover {int(runs.sum())} pixels of {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def decode_runs(text: str) -> list[int]:
    """The run lengths of COCO's compressed form: five bits a character from '0' on, the sixth says that more follow; from the
    fourth run on, the difference to the run before the last.

    Source: `rleFrString` of cocoapi, common/maskApi.c.

    Raises:
        ValueError: no such text.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"{character!r} is no character of run lengths")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return runs

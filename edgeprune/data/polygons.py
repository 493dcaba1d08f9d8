"""Polygons and run lengths -> the pixels that they cover.

A pixel is inside where its centre is, by the even-odd rule: a hole that is drawn as a bridge to the outline stays one.
(Pillow's `polygon` cuts coordinates to whole pixels and paints the border too, which makes objects up to a pixel fatter.
pycocotools rounds an outline at five times the size: of 1,771 labelled damages of cars it draws 0.11% of the area otherwise, as
much more as less, all but 18 pixels of it on the border. Run lengths are exact.)
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeprune.data.patches import Mask, Patch
from edgeprune.data.samples import UInt8

Floats = npt.NDArray[np.float64]
Runs = npt.NDArray[np.int64]
LEAST_POINTS = 3
GROUPS = 12  # of five bits, which a run length has at most


def patch_of(points_N2: Floats, height: int, width: int) -> Patch | None:
    """The pixels of an image that are inside a polygon; None where there are none.

    Args:
        points_N2: x, y in pixels; (0, 0) is the corner of the first pixel.
    """
    below_N2 = np.roll(points_N2, -1, axis=0)
    y_2N = np.sort(np.stack((points_N2[:, 1], below_N2[:, 1])), axis=0)
    # the rows whose centre line an edge crosses
    first_N, last_N = np.clip(np.ceil(y_2N - 0.5), 0, height).astype(np.int64)
    counts_N = last_N - first_N
    edge_E = np.repeat(np.arange(len(points_N2)), counts_N)
    if not len(edge_E):
        return None
    row_E = np.arange(len(edge_E)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N) + first_N[edge_E]
    along_E = (row_E + 0.5 - points_N2[edge_E, 1]) / (below_N2[edge_E, 1] - points_N2[edge_E, 1])
    x_E = points_N2[edge_E, 0] + along_E * (below_N2[edge_E, 0] - points_N2[edge_E, 0])
    column_E = np.clip(np.ceil(x_E - 0.5), 0, width).astype(np.int64)  # the first pixel on the other side
    top, bottom = int(row_E.min()), int(row_E.max()) + 1
    left, right = int(column_E.min()), int(column_E.max()) + 1
    crossings_hw = np.bincount(
        (row_E - top) * (right - left) + column_E - left, minlength=(bottom - top) * (right - left)
    )
    # odd or even is all that counts, and a byte says that of any number
    odd_hw = crossings_hw.astype(np.uint8).reshape(bottom - top, right - left)[:, : width - left]
    inside_hw = (np.cumsum(odd_hw, axis=1, dtype=np.uint8) & 1).astype(np.bool_)
    return Patch(top, left, inside_hw) if inside_hw.any() else None


def paint(label_HW: UInt8, points_N2: Floats, index: int) -> None:
    """Gives the pixels within a polygon the class `index`; see `patch_of`."""
    patch = patch_of(points_N2, *label_HW.shape)
    if patch is not None:
        patch.within(label_HW)[patch.inside_hw] = index


def checked_runs(counts: Sequence[int] | Runs, height: int, width: int) -> Runs:
    """COCO's run lengths as numbers.

    Raises:
        ValueError: they don't cover the image.
    """
    runs = np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1:
        raise ValueError("its run lengths are no list of numbers")
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"its runs cover {int(runs.sum())} pixels of {height * width}")
    return runs


def from_runs(counts: Sequence[int] | Runs, height: int, width: int) -> Mask:
    """COCO's run lengths: pixels outside, inside, outside ... down the columns.

    Raises:
        ValueError: they don't cover the image.
    """
    runs = checked_runs(counts, height, width)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def patch_of_runs(runs: Runs, height: int, width: int) -> Patch | None:
    """The pixels that run lengths cover, as `from_runs` has them; None where there are none. What is computed is the window."""
    ends_R = np.cumsum(checked_runs(runs, height, width))
    end_I = ends_R[1::2]
    begin_I = ends_R[::2][: len(end_I)]
    begin_I, end_I = begin_I[end_I > begin_I], end_I[end_I > begin_I]
    if not len(end_I):
        return None
    left, right = int(begin_I[0]) // height, (int(end_I[-1]) - 1) // height + 1
    top, bottom = int((begin_I % height).min()), int(((end_I - 1) % height).max()) + 1
    if ((end_I - 1) // height > begin_I // height).any():  # one goes on at the top of the next column
        top, bottom = 0, height
    within_R = np.diff(ends_R.clip(left * height, right * height), prepend=left * height)
    inside_wH = np.repeat(np.arange(len(runs)) % 2 == 1, within_R).reshape(right - left, height)
    return Patch(top, left, np.ascontiguousarray(inside_wH.T[top:bottom]))


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


def encode_runs(mask_HW: Mask, top: int = 0, left: int = 0, size: tuple[int, int] | None = None) -> str:
    """The pixels of a mask as COCO's compressed run lengths, as pycocotools writes and reads them.

    Args:
        mask_HW: of the whole image, or of the part that begins at row `top` and column `left`; elsewhere nothing is inside.
        size: height and width of the image; by default those of the mask.
    """
    return compress_runs(_runs_of(mask_HW, top, left, size or mask_HW.shape))


def _runs_of(mask_hw: Mask, top: int, left: int, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Pixels outside, inside, outside ... down the columns of the image."""
    (rows, columns), (height, width) = mask_hw.shape, size
    apart_CR = np.zeros((columns + 1, rows + 1), np.bool_)  # columns with a pixel outside above each
    apart_CR[:columns, 1:] = mask_hw.T
    flat = apart_CR.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # where a run begins, and where it has ended, in turn
    column, row = np.divmod(np.stack((edges[::2], edges[1::2] - 1)), rows + 1)
    begins, lasts = (left + column) * height + top + row - 1
    ends = lasts + 1
    between = ends[:-1] != begins[1:]  # a run to the foot of a column goes on at the head of the next
    begins, ends = begins[np.r_[True, between][: len(begins)]], ends[np.r_[between, True][: len(ends)]]
    borders = np.r_[0, np.stack((begins, ends), axis=1).reshape(-1), height * width]
    runs: npt.NDArray[np.int64] = np.diff(borders)
    return runs[:-1] if len(runs) > 1 and not runs[-1] else runs


def compress_runs(runs: Sequence[int] | npt.NDArray[np.int64]) -> str:
    """The compressed form of run lengths, see `decode_runs`.

    Source: `rleToString` of cocoapi, common/maskApi.c.
    """
    values_R = np.array(runs, np.int64)
    values_R[3:] -= np.asarray(runs, np.int64)[1:-2]
    # the fewest groups of five bits that hold it with its sign
    rest_RG = values_R[:, None] >> (5 * np.arange(1, GROUPS + 1) - 1)
    groups_R = 1 + ((rest_RG != 0) & (rest_RG != -1)).sum(1)
    place_G = np.arange(groups_R.max(initial=1))
    more_RG = place_G < groups_R[:, None] - 1
    codes_RG = ((values_R[:, None] >> (5 * place_G)) & 0x1F) | (0x20 * more_RG)
    text: str = (codes_RG[place_G < groups_R[:, None]] + 48).astype(np.uint8).tobytes().decode("ascii")
    return text

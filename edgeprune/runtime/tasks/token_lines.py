"""What the first decision made of a frame's tokens, drawn over the frame.

Shapes: H W pixels of the picture, Gh Gw patches of the grid.
"""

from itertools import pairwise

import numpy as np
from PIL import Image

from edgeprune.data.nearest import nearest_index
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.first_decision import TokenMap

LINE_RGB, LINE_SHARE = (255, 255, 255), 0.6  # between two tokens
LET_GO_RGB, LET_GO_SHARE = (0, 0, 0), 0.55  # over one that is let go
TURN_RGB = (255, 176, 0)  # around one that was computed as it was its turn
CHIPS_RGB = ((236, 236, 232), (86, 86, 84))  # in a legend: of one that stays, of one that is let go
EDGE = 10  # parts of a patch, one of which its frame is wide
WIDE_PX = 900  # from here on a line is two pixels wide: a page shows the picture smaller


def draw_tokens(picture: Image.Image, tokens: TokenMap, fit: Preprocess) -> None:
    """Darkens tokens that are let go; where cells merge, a line between any two tokens, so that each box is one; a frame around
    those whose turn it was."""
    level_GG = tokens.level_GG
    if level_GG is None:
        return
    width, height = picture.size
    top, left, inner_height, inner_width = fit.placement(height, width)
    row_H = nearest_index(height, level_GG.shape[0], top, inner_height, fit.height)
    column_W = nearest_index(width, level_GG.shape[1], left, inner_width, fit.width)
    if not level_GG.all():
        mask_HW = (level_GG == 0)[row_H][:, column_W] * np.uint8(255 * LET_GO_SHARE)
        picture.paste(LET_GO_RGB, mask=Image.fromarray(mask_HW))
    if tokens.decision.merges or tokens.decision.remembers:
        number_GG = _numbers(level_GG) if tokens.decision.merges else level_GG
        mask_HW = _lines(number_GG, row_H, column_W, 1 + (width >= WIDE_PX))
        picture.paste(LINE_RGB, mask=Image.fromarray(mask_HW * np.uint8(255 * LINE_SHARE)))
    turn_GG = tokens.turn_GG
    if turn_GG is not None and turn_GG.any():
        edge_HW = _edges(row_H)[:, None] | _edges(column_W)
        picture.paste(TURN_RGB, mask=Image.fromarray((turn_GG[row_H][:, column_W] & edge_HW) * np.uint8(255)))


def _numbers(level_GG: UInt8) -> np.ndarray:
    """A number for each patch (Gh, Gw), equal within a merged cell: that of its upper left patch."""
    row_G1, column_G = np.arange(level_GG.shape[0])[:, None], np.arange(level_GG.shape[1])
    side_GG = np.maximum(level_GG.astype(np.int64), 1)
    numbers: np.ndarray = row_G1 // side_GG * side_GG * level_GG.shape[1] + column_G // side_GG * side_GG
    return numbers


def _edges(patch_P: np.ndarray) -> np.ndarray:
    """True for the pixels of a row or a column (P) with which a patch begins or ends, a tenth of it at each end."""
    ends = np.flatnonzero(np.diff(patch_P, append=-1, prepend=-1))  # the first pixel of each patch, and the end
    edge_P = np.zeros(len(patch_P), np.bool_)
    for first, end in pairwise(ends):
        wide_px = max(1, (end - first) // EDGE)
        edge_P[first : first + wide_px] = edge_P[end - wide_px : end] = True
    return edge_P


def _lines(number_GG: np.ndarray, row_H: np.ndarray, column_W: np.ndarray, wide_px: int) -> UInt8:
    """Ones (H, W) where a pixel begins another number than the one above or to the left of it."""
    line_HW = np.zeros((len(row_H), len(column_W)), np.uint8)
    begins = np.flatnonzero(np.diff(column_W)) + 1  # the pixels with which columns of patches begin
    differs = number_GG[:, column_W[begins]] != number_GG[:, column_W[begins - 1]]
    for px in range(wide_px):
        line_HW[:, np.minimum(begins + px, len(column_W) - 1)] |= differs[row_H].astype(np.uint8)
    begins = np.flatnonzero(np.diff(row_H)) + 1
    differs = number_GG[row_H[begins]] != number_GG[row_H[begins - 1]]
    for px in range(wide_px):
        line_HW[np.minimum(begins + px, len(row_H) - 1)] |= differs[:, column_W].astype(np.uint8)
    return line_HW

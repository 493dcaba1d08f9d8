"""What a policy did with the tokens of a frame, as a picture: the frame and its classes, how many blocks processed each
token, and for each decision which tokens stayed, came back, were merged or were let go.

Shapes: H W pixels, N tokens of the grid, G decisions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from edgeprune.data.nearest import resize_nearest
from edgeprune.data.panel_grid import TEXT_RGB, PanelGrid
from edgeprune.model.schedule import Schedule
from edgeprune.runtime.tasks.outlines import WIDE_PX, eroded

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

BACK_RGB = (70, 200, 120)  # a token that the decision before had let go
LINE_RGB = (255, 214, 90)  # between merged groups
OUTLINE_RGB = (255, 255, 255)  # around things
LET_GO = 0.3  # brightness of a token that is let go
COLUMNS = 4
GAP_PX, TITLE_PX = 6, 20
# few to many blocks: dark blue, teal, yellow; evenly lighter, so that it reads in grey too
HEAT_RGB = ((38, 30, 82), (44, 92, 140), (38, 148, 138), (122, 200, 88), (252, 232, 60))


@dataclass(frozen=True)
class Selection:
    """What a policy decided on one frame.

    Attributes:
        grid: (Gh, Gw).
        before: of each decision, the number of the block that it precedes, from 1.
        keep_GN: which tokens the blocks after it process; of a merged group one.
        blocks_N: how many blocks processed each token, or the group that it was merged into.
        groups_GN: of each decision, the number of the group that a token belongs to; None where nothing is merged.
        inside_N: True for the tokens of the region that the blocks see; None: all.
    """

    grid: tuple[int, int]
    before: Sequence[int]
    keep_GN: Bool
    blocks_N: npt.NDArray[np.int64]
    groups_GN: npt.NDArray[np.int64] | None = None
    inside_N: Bool | None = None

    def token_share(self, depth: int) -> float:
        """Tokens processed over all blocks, as a share of the dense model's; a merged group is one."""
        tokens = int(np.prod(self.grid))
        first = tokens if self.inside_N is None else int(self.inside_N.sum())
        schedule = Schedule(depth, (1, first), tuple(block - 1 for block in self.before))
        counts = [int(keep_N.sum()) for keep_N in self.keep_GN]
        return schedule.token_layers(counts) / (tokens * depth)

    def present(self, index: int) -> Bool:
        """(N,) whether a decision keeps a token; one of a merged group is there as long as its group is."""
        keep_N = self.keep_GN[index]
        if self.groups_GN is None:
            return keep_N
        groups_N = self.groups_GN[index]
        return np.isin(groups_N, groups_N[keep_N])

    def processed(self, depth: int) -> Bool:
        """(depth, N) whether each block processed each token, or the group that it was merged into."""
        decided = {block: index for index, block in enumerate(self.before)}  # of several before one block the last
        here_N = np.ones(int(np.prod(self.grid)), bool) if self.inside_N is None else self.inside_N
        here_LN = []
        for block in range(1, depth + 1):
            if block in decided:
                here_N = self.present(decided[block])
            here_LN.append(here_N)
        return np.stack(here_LN)


def draw_selection(
    image_HW3: UInt8,
    overlay_HW3: UInt8,
    selection: Selection,
    depth: int,
    panel_px: int = 320,
    outline_HW: Bool | None = None,
) -> UInt8:
    """All panels of a frame, (rows of four) uint8 RGB.

    Args:
        image_HW3: the frame as the model saw it.
        overlay_HW3: with its classes, or its things; same size.
        depth: blocks of the network.
        panel_px: width of a panel.
        outline_HW: of the things that were found; None: the model finds none, but areas.
    """
    tokens = selection.keep_GN.shape[1] if len(selection.keep_GN) else int(np.prod(selection.grid))
    panels = [
        ("classes" if outline_HW is None else "things", overlay_HW3),
        (
            f"blocks a patch went through; {selection.token_share(depth):.0%} of dense",
            outlined(draw_heat(image_HW3, selection, depth), outline_HW),
        ),
    ]
    for index, block in enumerate(selection.before):
        title = f"before block {block}: {int(selection.keep_GN[index].sum())} of {tokens}"
        panels.append((title, outlined(draw_decision(image_HW3, selection, index), outline_HW)))
    height, width = image_HW3.shape[:2]
    panel_height = round(panel_px * height / width)
    columns = min(COLUMNS, len(panels))
    heights = [panel_height + TITLE_PX] * -(-len(panels) // columns)
    grid, marks = PanelGrid(columns, heights, panel_px, GAP_PX, top=GAP_PX), legend(selection, outline_HW is not None)
    picture = grid.ground(below=TITLE_PX if marks else 0)
    ink, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for index, (title, panel_HW3) in enumerate(panels):
        left, top = grid.at(*divmod(index, columns))
        ink.text((left, top + TITLE_PX / 2), title, TEXT_RGB, font, anchor="lm")
        resized = Image.fromarray(panel_HW3).resize((panel_px, panel_height), Image.Resampling.LANCZOS)
        picture.paste(resized, (left, top + TITLE_PX))
    ink.text((GAP_PX, picture.height - TITLE_PX / 2 - GAP_PX / 2), marks, TEXT_RGB, font, anchor="lm")
    return np.asarray(picture)


def legend(selection: Selection, things: bool = False) -> str:
    """What the marks mean that this picture has; none where no decision did anything. `things`: whether these are outlined."""
    there = [selection.present(index) for index in range(len(selection.before))]
    marks = {
        "yellow lines: between groups that are processed as one token": selection.groups_GN is not None,
        "dark: let go, its features stay as they were or are gone": any(not keep_N.all() for keep_N in there),
        "green: taken back after the decision before let it go": any(
            (now_N & ~before_N).any() for before_N, now_N in pairwise(there)
        ),
        "white lines: around things": things,
    }
    return ";  ".join(text for text, shown in marks.items() if shown)


def draw_decision(image_HW3: UInt8, selection: Selection, index: int) -> UInt8:
    """The frame with let-go tokens dark and grey, tokens that came back green, merged groups outlined."""
    size = image_HW3.shape[:2]
    keep_N = selection.present(index)
    keep_HW1 = _to_pixels(keep_N, selection.grid, size)[..., None]
    grey_HW1 = image_HW3.mean(axis=-1, keepdims=True) * LET_GO
    drawn_HW3 = np.where(keep_HW1, image_HW3, grey_HW1)
    if index:
        back_HW1 = _to_pixels(keep_N & ~selection.present(index - 1), selection.grid, size)[..., None]
        drawn_HW3 = np.where(back_HW1, 0.55 * drawn_HW3 + 0.45 * np.array(BACK_RGB), drawn_HW3)
    drawn_HW3 = drawn_HW3.round().astype(np.uint8)
    if selection.groups_GN is not None:
        groups_HW = _to_pixels(selection.groups_GN[index], selection.grid, size)
        edge_HW = np.zeros(size, bool)
        edge_HW[:, 1:] |= groups_HW[:, 1:] != groups_HW[:, :-1]
        edge_HW[1:] |= groups_HW[1:] != groups_HW[:-1]
        drawn_HW3[edge_HW] = LINE_RGB
    return drawn_HW3


def draw_heat(image_HW3: UInt8, selection: Selection, depth: int) -> UInt8:
    """How many blocks processed each token, over the darkened frame."""
    stops = np.linspace(0, depth, len(HEAT_RGB))
    colours_N3 = np.stack(
        [np.interp(selection.blocks_N, stops, [colour[channel] for colour in HEAT_RGB]) for channel in range(3)],
        axis=-1,
    )
    colours_HW3 = _to_pixels(colours_N3, selection.grid, image_HW3.shape[:2])
    light_HW1 = image_HW3.mean(axis=-1, keepdims=True) / 255
    mixed: UInt8 = (colours_HW3 * (0.55 + 0.45 * light_HW1)).round().astype(np.uint8)
    return mixed


def outline_of(masks: Iterable[Bool], size: tuple[int, int]) -> Bool:
    """True for the pixels (H, W) of masks (H, W) along their borders; where a mask ends with the frame it has none."""
    outline_HW, wide_px = np.zeros(size, bool), 1 + size[1] // WIDE_PX
    for mask_HW in masks:
        outline_HW |= mask_HW & ~eroded(mask_HW, wide_px)
    return outline_HW


def outlined(picture_HW3: UInt8, outline_HW: Bool | None) -> UInt8:
    """The picture with outlines over it; None: there are none."""
    if outline_HW is None:
        return picture_HW3
    drawn_HW3 = picture_HW3.copy()
    drawn_HW3[outline_HW] = OUTLINE_RGB
    return drawn_HW3


def _to_pixels(
    values_N: npt.NDArray[np.generic], grid: tuple[int, int], size: Sequence[int]
) -> npt.NDArray[np.generic]:
    """A value per token -> a value per pixel; further dimensions stay as they are."""
    cell_HW = resize_nearest(np.arange(len(values_N)).reshape(grid), *size)
    return values_N[cell_HW]

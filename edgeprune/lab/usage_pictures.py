"""Pictures of which tokens are processed: of one frame, and of many gate by gate.

Shapes: H W pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from edgeprune.base.files import write_atomic
from edgeprune.data.instances import Instances
from edgeprune.evaluate.plot import new_figure, save, style
from edgeprune.pruning.token_pictures import Selection, draw_heat, outline_of, outlined
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks.overlay import Overlay


class Line(NamedTuple):
    """How a share is drawn: what it is called, its colour, and how its line looks."""

    called: str
    colour: str
    dashes: str = "-"


# by the names of a row's figures, in the panel above and in the one below
TOKENS = {
    "processed": Line("processed", "#3b6fb6"),
    "reactivated": Line("reactivated: missed a block before", "#d1602b"),
    "returned": Line("returned: let go by the gate before", "#d1602b", ":"),
}
PARTS = {
    "inside": Line("inside of things", "#3b6fb6"),
    "outside": Line("outside", "#555555"),
    "small": Line("small things", "#b8912c", "--"),
    "medium": Line("medium", "#4c9a6a", "--"),
    "large": Line("large", "#8a5fa8", "--"),
}


def draw_frame(path: Path, image_HW3: UInt8, things: Instances, selection: Selection, depth: int) -> None:
    """Writes a frame, as the model saw it, beside how many blocks each token went through, both with its things outlined.

    Args:
        things: at the same size; crowds are not outlined.
    """
    masks = (things.mask(index) for index in range(len(things)) if not things.crowd_I[index])
    outline_HW = outline_of(masks, things.size)
    heat_HW3 = outlined(draw_heat(image_HW3, selection, depth), outline_HW)
    told = f"blocks of each token: blue few, yellow all {depth}; {selection.token_share(depth):.0%} of dense"
    picture_HW3 = np.hstack((outlined(image_HW3, outline_HW), Overlay([], []).caption(heat_HW3, told)))
    with write_atomic(path, "a picture") as partial:
        Image.fromarray(picture_HW3).save(partial, "PNG")


def plot_usage(blocks: Sequence[int], shares: Mapping[str, Sequence[float | None]], path: Path) -> None:
    """Shares of the tokens above, and below the shares of the pixels of things that lie on processed tokens.

    Args:
        blocks: the block that each gate precedes, from 1.
        shares: by their names, of each gate; None where there is none.

    Raises:
        InputError: matplotlib is missing, or the path can't be written.
    """
    figure = new_figure(7.2, 6.0)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, lines in ((above, TOKENS), (below, PARTS)):
        for name, line in lines.items():
            known = [
                (block, 100 * share) for block, share in zip(blocks, shares[name], strict=True) if share is not None
            ]
            if known:
                axes.plot(
                    *zip(*known, strict=True), f"o{line.dashes}", ms=3.5, lw=1.4, color=line.colour, label=line.called
                )
        axes.set_ylim(0, 105)
        style(axes)
        axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    above.set(ylabel="% of the tokens")
    below.set(ylabel="% of their pixels on processed tokens", xlabel="before block", xticks=list(blocks))
    save(figure, path)

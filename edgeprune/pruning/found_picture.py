"""A picture of what a model finds in a frame: its classes, or its things with their names.

Shapes: H W pixels.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from edgeprune.data.nearest import resize_nearest
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.card import Card
from edgeprune.model.heads.head import Head, Raw
from edgeprune.model.network import Network
from edgeprune.pruning.one_frame import label_map_of, outputs_of
from edgeprune.pruning.token_pictures import Bool, outline_of
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks import find_task
from edgeprune.runtime.tasks.outlines import draw_things
from edgeprune.runtime.tasks.overlay import Overlay
from edgeprune.runtime.tasks.things import Thing


class Found(NamedTuple):
    """picture_HW3: the frame with what was found over it. outline_HW: of the things; None: the task finds areas."""

    picture_HW3: UInt8
    outline_HW: Bool | None


def draw_found(model: Network, card: Card, image_HW3: UInt8, raw: Raw, about: str) -> Found:
    """Draws the answer of a model.

    Args:
        image_HW3: a frame of its input's size.
        raw: what its head computed, of a batch of one.
        about: the line above.
    """
    size, overlay = (image_HW3.shape[0], image_HW3.shape[1]), Overlay(card.names, card.palette)
    things = _things(model, card, raw, size)
    if things is None:
        label_HW = resize_nearest(label_map_of(model, raw), *size).astype(np.uint8)
        return Found(overlay.draw(image_HW3, label_HW, about), None)
    layer = partial(draw_things, things=things, palette=card.palette, layout=overlay.layout(*size))
    outline_HW = outline_of((thing.mask_HW for thing in things), size)
    return Found(overlay.draw_over(image_HW3, about, [layer]), outline_HW)


def _things(model: Network, card: Card, raw: Raw, size: tuple[int, int]) -> tuple[Thing, ...] | None:
    """What was found in a frame of the input's size; None: the task finds areas."""
    head, inside = getattr(model, "head", None), model.inside
    if not isinstance(head, Head):  # of a network of areas that is none of ours
        return None
    height, width = (side // head.label_stride for side in size)
    inside_hw = None if inside is None else inside.region.pixels(height, width)
    task, fit = find_task(card.model.task), Preprocess.of(model.spec)
    return task.find_things(outputs_of(head, raw), card.names, fit, size, inside_hw)

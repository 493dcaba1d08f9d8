"""Where guided queries begin (`model/heads/guided.py`), and which things they are paired with.

Shapes: B batch, I things of a batch, J things of the frame that has most, R groups, P places of stride 8, M pairs.
"""

import numpy as np
import torch
import torch.nn.functional as F

from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.places import STRIDE
from edgeprune.train.matching import Pairs, Things


@torch.no_grad()
def draw_guided(things: Things, groups: int) -> Guided:
    """For each group a place of each thing, drawn by how many of its pixels lie there: a query learns to find its thing from
    wherever in it the head's own may begin.

    Args:
        things: of a batch; none may be empty.
    """
    counts, device = things.counts, things.classes_I.device
    most = max(counts, default=0)
    places_BRJ = torch.zeros(len(counts), groups, most, dtype=torch.int64, device=device)
    thing_BRJ = torch.full_like(places_BRJ, -1)
    if most:
        masks_I1HW = things.masks_IHW[:, None].float()
        covered_IP = F.avg_pool2d(masks_I1HW, STRIDE, ceil_mode=True, divisor_override=1)
        number_I = torch.from_numpy(np.concatenate([np.arange(count) for count in counts])).to(device)
        frame_I = things.frame_I
        places_BRJ[frame_I, :, number_I] = torch.multinomial(covered_IP.flatten(1), groups, replacement=True)
        thing_BRJ[frame_I, :, number_I] = torch.arange(len(frame_I), device=device)[:, None].expand(-1, groups)
    return Guided(places_BRJ.flatten(1), thing_BRJ.flatten(1), groups)


def pairs_of(guided: Guided) -> Pairs:
    """The queries that have a thing, and which."""
    frame_M, query_M = (guided.thing_BG >= 0).nonzero(as_tuple=True)
    return Pairs(frame_M, query_M, guided.thing_BG[frame_M, query_M])

"""Where the middles of things are, as a network is to say it at every place of stride 8, and how far off it is: CenterNet's
penalty-reduced focal loss (Zhou 2019, "Objects as Points", equation 1), on Gaussians of the boxes' own proportions (Liu 2020,
"Training-Time-Friendly Network for Real-Time Object Detection", section 3.3).

Shapes: B batch, K classes, H W places, P = H W, I things of a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.train.matching import Things

SPREAD = 0.54 / 6  # of a Gaussian, times a side of the box
LEAST_SPREAD = 0.4  # places: the neighbour of a small thing's middle has a target of 0.04
FOCUS, NEAR = 2, 4  # exponents: of how wrong a place is, of how near it is to a middle


def heatmap_targets(things: Things, classes: int, height: int, width: int) -> Tensor:
    """(B, K, H, W): 1 at the place where the middle of a thing's box lies, less around it, of things of a class the most."""
    spread = []
    for axis, size in ((1, height), (0, width)):
        middle_I1 = (things.boxes_I4[:, axis, None] * size).floor().clamp_max(size - 1)
        sigma_I1 = (things.boxes_I4[:, 2 + axis, None] * size * SPREAD).clamp_min(LEAST_SPREAD)
        number_S = torch.arange(size, device=middle_I1.device)
        spread.append(torch.exp(-((number_S - middle_I1) ** 2) / (2 * sigma_I1**2)))
    of_thing_IP = (spread[0][:, :, None] * spread[1][:, None]).flatten(1)
    row_I = things.frame_I * classes + things.classes_I
    target_RP = of_thing_IP.new_zeros(len(things.counts) * classes, height * width)
    target_RP.scatter_reduce_(0, row_I[:, None].expand_as(of_thing_IP), of_thing_IP, "amax")
    return target_RP.unflatten(1, (height, width)).unflatten(0, (len(things.counts), classes))


def heatmap_distance(heatmap_BKHW: Tensor, target_BKHW: Tensor) -> Tensor:
    """Of logits from what they are to say, the sum over all places."""
    logits_BKHW = heatmap_BKHW.float()
    p_BKHW = logits_BKHW.sigmoid()
    middle_BKHW = (1 - p_BKHW) ** FOCUS * F.softplus(-logits_BKHW)
    other_BKHW = (1 - target_BKHW) ** NEAR * p_BKHW**FOCUS * F.softplus(logits_BKHW)
    return torch.where(target_BKHW == 1, middle_BKHW, other_BKHW).sum()

"""Where the instance head looks for things: the places of stride 8 whose features say most clearly that the middle of a thing
is there, as CenterNet finds them (Zhou 2019, "Objects as Points"). A query begins as what it finds at its place, as the first
stage of a two-stage DETR hands them over (Zhu 2021, "Deformable DETR", section 4.2; He 2023, "FastInst", section 3.2): one that
is learnt without a place says the same on every frame for thousands of steps.

Shapes: B batch, K classes, H W places of stride 8, P = H W, Q queries, E channels of a pixel embedding, h w pixels of masks, I
things.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.model.blocks import FAR_BELOW

STRIDE = 8  # of places
FIRST_PROBABILITY = 0.1  # of a middle before anything is learnt (Lin 2017, "Focal Loss", section 4.1)
FIRST_SIDE = 32.0  # of a box before anything is learnt, in pixels
LARGEST = 4.0  # of the logarithm of a side over FIRST_SIDE: 1,747 pixels
MARGIN = 1.05  # times a box, and one pixel more, is where its mask may be
# logits that are lost with each pixel beyond, and at most: with fewer, what looks alike a few pixels away is in the mask
STEEP, MOST = 12.0, 30.0


def find_places(heatmap_BKHW: Tensor, count: int) -> Tensor:
    """The `count` best of the places that no neighbour is better than, (B, Q), the best first: of each class a maximum of three
    by three places counts, of classes the best (Zhou 2019, section 4: a pooling in place of suppression).

    Args:
        heatmap_BKHW: logits of the middle of a thing of each class.
    """
    highest_BKHW = F.max_pool2d(heatmap_BKHW, 3, stride=1, padding=1)
    best_BP = heatmap_BKHW.masked_fill(heatmap_BKHW < highest_BKHW, FAR_BELOW).amax(1).flatten(1)
    return best_BP.topk(min(count, best_BP.shape[1])).indices


def anchors(grid: tuple[int, int], extent: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """The box that a query of each place begins with, (P, 4): its middle there, FIRST_SIDE each way, as shares of `extent`.

    Args:
        extent: height and width of what the grid covers, in pixels.
    """
    rows_H, columns_W = ((torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size for size in grid)
    x_HW, y_HW = columns_W[None].expand(grid), rows_H[:, None].expand(grid)
    width_HW, height_HW = (torch.full(grid, FIRST_SIDE / pixels, device=device) for pixels in reversed(extent))
    return torch.stack((x_HW, y_HW, width_HW, height_HW), dim=-1).flatten(0, 1)


def boxes_from(anchor_BQ4: Tensor, said_BQ4: Tensor) -> Tensor:
    """Boxes (B, Q, 4) of what queries say of them: how far their middle is from the place, in sides of the first box, and the
    logarithms of their sides over its (Ren 2015, "Faster R-CNN", section 3.1.2): pixels, whatever the size of the frame."""
    side_BQ2 = anchor_BQ4[..., 2:]
    middle_BQ2 = anchor_BQ4[..., :2] + said_BQ4[..., :2] * side_BQ2
    return torch.cat((middle_BQ2, side_BQ2 * said_BQ4[..., 2:].clamp_max(LARGEST).exp()), dim=-1)


def beyond(boxes_BQ4: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """How much of a mask's logit is lost outside of its box, by rows (B, Q, h) and by columns (B, Q, w): a mask ends where its
    box does, or two things of one class would have one (Bolya 2019, "YOLACT", section 3.3, which crops; by the true box while
    a network learns, see `train/matching.py`).

    Args:
        boxes_BQ4: centre, width and height as shares of the input.
        height, width: of masks, in pixels.
    """
    found = []
    for axis, size in ((1, height), (0, width)):
        middle_S = (torch.arange(size, device=boxes_BQ4.device, dtype=boxes_BQ4.dtype) + 0.5) / size
        reach_BQ1 = boxes_BQ4[..., 2 + axis, None] * (MARGIN / 2) + 1 / size
        outside_BQS = (middle_S - boxes_BQ4[..., axis, None]).abs() - reach_BQ1
        found.append((outside_BQS * (STEEP * size)).clamp(0.0, MOST))
    return found[0], found[1]


def masks_of(outline_BQE: Tensor, added_BQ: Tensor, boxes_BQ4: Tensor, pixels_BEhw: Tensor) -> Tensor:
    """Logits of each query's mask at each pixel, (B, Q, h, w); less of them beyond its box."""
    masks_BQP = outline_BQE @ pixels_BEhw.flatten(2).to(outline_BQE.dtype)  # a norm may answer in FP32
    rows_BQh, columns_BQw = beyond(boxes_BQ4.detach(), *pixels_BEhw.shape[-2:])
    rows_BQh = rows_BQh - added_BQ[..., None]
    return masks_BQP.unflatten(2, pixels_BEhw.shape[-2:]) - rows_BQh[..., None] - columns_BQw[:, :, None]


def uncut(masks_BQhw: Tensor, boxes_BQ4: Tensor) -> Tensor:
    """Logits of masks that were cut at boxes (`beyond`), as they were before."""
    rows_BQh, columns_BQw = beyond(boxes_BQ4, *masks_BQhw.shape[-2:])
    return masks_BQhw + rows_BQh[..., None] + columns_BQw[:, :, None]


def cut(masks_BQhw: Tensor, boxes_BQ4: Tensor) -> Tensor:
    """Logits of masks, less of them beyond boxes."""
    rows_BQh, columns_BQw = beyond(boxes_BQ4, *masks_BQhw.shape[-2:])
    return masks_BQhw - rows_BQh[..., None] - columns_BQw[:, :, None]


def within(boxes_I4: Tensor, points_IP2: Tensor, height: int, width: int) -> Tensor:
    """Whether points x, y are where a mask of height x width is not cut by its box: (I, P), 0 or 1."""
    reach_I2 = boxes_I4[:, 2:] * (MARGIN / 2) + 1 / boxes_I4.new_tensor((width, height))
    near_IP2 = (points_IP2 - boxes_I4[:, None, :2]).abs() <= reach_I2[:, None]
    return near_IP2.all(-1).to(points_IP2.dtype)

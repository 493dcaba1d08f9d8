"""Which query a thing is learnt by, and how far its answer is from it: Mask2Former's matching and losses (Cheng 2022, sections
3.2.3 and 3.3), with boxes as DETR has them (Carion 2020, section 3.2).

Shapes: B batch, Q queries, I things of a batch, K classes, M pairs of a query and a thing, P points of a frame, h w pixels of
mask logits, H W of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from edgeprune.model.heads import places
from edgeprune.model.heads.answers import Answers, corners

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT, BOX_WEIGHT = 2.0, 5.0, 5.0, 5.0
OVERLAP_WEIGHT = 5.0  # DETR has 2: sides in shares of the frame say little of small things
# of a query that begins outside of the thing, against one that begins inside; of how hot the thing's class is where it begins
PLACE_WEIGHT, HEAT_WEIGHT = 10.0, 3.0
MATCHED_POINTS, LEARNT_POINTS = 512, 512
NEAR_SHARE, REACH = 0.75, 1.5  # of the points lie in a thing's box, made so much larger; the others anywhere
FAR = 1e4  # a cost that is no number, or larger


@dataclass
class Things:
    """What there is to be found in a batch, frame after frame.

    Attributes:
        counts: how many there are in each frame.
        classes_I: int64.
        masks_IHW: 0 or 1, bytes, at the input's own pixels.
        boxes_I4: centre, width and height as shares of the input.
    """

    counts: list[int]
    classes_I: Tensor
    masks_IHW: Tensor
    boxes_I4: Tensor

    @cached_property
    def frame_I(self) -> Tensor:
        """The frame of each."""
        frames = np.repeat(np.arange(len(self.counts)), self.counts)
        return torch.from_numpy(frames).to(self.classes_I.device)


@dataclass
class Pairs:
    """Queries and the things that they are to find: query `query_M` of frame `frame_M`, thing `thing_M` of the batch's."""

    frame_M: Tensor
    query_M: Tensor
    thing_M: Tensor


@torch.no_grad()
def match(answers: Answers, things: Things) -> list[Pairs]:
    """For each of the answers the queries and the things that belong together at the least cost: of each frame as many pairs as
    it has things, or as there are queries where these are fewer (Kuhn 1955, by scipy on the host, which waits for the device
    once).

    Costs are those of `distances`, at points that all pairs of a frame share, with the class's probability in place of its
    logarithm, and those of `place_costs`; what is no number costs FAR, so that a diverging model is matched and its loss says
    so.
    """
    each = zip(answers.logits, answers.boxes, answers.masks, strict=True)
    placed = place_costs(answers.heatmap_BKPhPw, answers.places_BQ, things)
    found = _assign([cost_QI for answer in each for cost_QI in costs(*answer, things, placed)])
    frames, firsts = len(things.counts), np.cumsum([0, *things.counts[:-1]])
    pairs = []
    for start in range(0, len(found), frames):
        own = found[start : start + frames]
        frame_M = np.repeat(np.arange(frames), [len(queries) for queries, _ in own])
        query_M = np.concatenate([queries for queries, _ in own])
        thing_M = np.concatenate([first + indices for first, (_, indices) in zip(firsts, own, strict=True)])
        on_device = torch.from_numpy(np.stack((frame_M, query_M, thing_M))).to(things.classes_I.device)
        pairs.append(Pairs(*on_device.unbind()))
    return pairs


def place_costs(heatmap_BKPhPw: Tensor, places_BQ: Tensor, things: Things) -> list[Tensor]:
    """Of each frame what every query costs for every one of its things by where it begins, (Q, I): outside of a thing no query
    should learn it (He 2023, "FastInst", section 3.3, location cost), and of those inside the hottest is to, which others can
    tell: what queries on one thing say of it hardly differs.

    Args:
        heatmap_BKPhPw: logits of the middle of a thing of each class at each place.
        places_BQ: where queries begin.
    """
    side, masks_I1HW = places.STRIDE, things.masks_IHW[:, None].float()
    # a place is inside where it or a neighbour of it has a pixel of the thing
    covered_IP = F.max_pool2d(masks_I1HW, 3 * side, side, side, ceil_mode=True).flatten(1)
    heat_BKP = heatmap_BKPhPw.float().sigmoid().flatten(2)
    each = zip(places_BQ, heat_BKP, things.classes_I.split(things.counts), covered_IP.split(things.counts), strict=True)
    found = []
    for place_Q, heat_KP, class_I, inside_IP in each:
        found.append(PLACE_WEIGHT * (1 - inside_IP[:, place_Q].T) - HEAT_WEIGHT * heat_KP[class_I][:, place_Q].T)
    return found


def costs(
    logits_BQK1: Tensor, boxes_BQ4: Tensor, masks_BQhw: Tensor, things: Things, placed: Sequence[Tensor]
) -> list[Tensor]:
    """Of each frame what every query costs for every one of its things, (Q, I), finite. Masks are compared where the thing's
    own box does not cut them, as in `distances`: by the query's own a box that is a little short would cost more than a wrong
    class.

    Args:
        placed: of `place_costs`.
    """
    points_BP2 = shared_points(things)
    said_BQP = masks_at(places.uncut(masks_BQhw.float(), boxes_BQ4.float()), points_BP2)
    points_IP2 = points_BP2[things.frame_I]
    truth_IP = truth_at(things.masks_IHW, points_IP2)
    inside_IP = places.within(things.boxes_I4, points_IP2, *masks_BQhw.shape[-2:])
    p_BQK1, boxes_BQ4 = logits_BQK1.float().softmax(-1), boxes_BQ4.float()
    of_things = (things.classes_I, things.boxes_I4, truth_IP, inside_IP)
    of_frames = zip(*(of_I.split(things.counts) for of_I in of_things), placed, strict=True)
    found = []
    for index, (class_I, box_I4, of_frame_IP, where_IP, placed_QI) in enumerate(of_frames):
        cost_QI = placed_QI - CLASS_WEIGHT * p_BQK1[index][:, class_I]
        cost_QI = cost_QI + MASK_WEIGHT * cross_entropies(said_BQP[index], of_frame_IP, where_IP)
        cost_QI = cost_QI + DICE_WEIGHT * dice_distances(said_BQP[index].sigmoid(), of_frame_IP, where_IP)
        cost_QI = cost_QI + BOX_WEIGHT * (boxes_BQ4[index][:, None] - box_I4).abs().sum(-1)
        cost_QI = cost_QI - OVERLAP_WEIGHT * overlap(boxes_BQ4[index][:, None], box_I4[None])
        found.append(torch.nan_to_num(cost_QI, nan=FAR, posinf=FAR, neginf=-FAR).clamp(-FAR, FAR))
    return found


def _assign(costs: Sequence[Tensor]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Of each matrix (Q, I) the rows and columns of its cheapest pairs."""
    flat = torch.cat([cost_QI.flatten() for cost_QI in costs]).cpu().numpy()
    ends = np.cumsum([cost_QI.numel() for cost_QI in costs])
    parts = zip(costs, np.split(flat, ends[:-1]), strict=True)
    return [linear_sum_assignment(part.reshape(cost_QI.shape)) for cost_QI, part in parts]


def distances(boxes_BQ4: Tensor, masks_BQhw: Tensor, things: Things, pairs: Pairs) -> Tensor:
    """How far queries are from the things that they are to find, the sum over the pairs: masks by cross-entropy and Dice at
    points in and around their boxes, boxes by their sides' distance and overlap.

    Masks come cut at the boxes that the queries say, and are learnt cut at the true ones (Bolya 2019, "YOLACT", section 3.3):
    a pixel that a wrong box cuts away is the box's fault, and no mask could mend it.
    """
    boxes_M4 = boxes_BQ4[pairs.frame_M, pairs.query_M].float()
    masks_Mhw = masks_BQhw[pairs.frame_M, pairs.query_M].float()
    if not len(pairs.thing_M):
        return (boxes_M4.sum() + masks_Mhw.sum()) * 0.0
    box_M4 = things.boxes_I4[pairs.thing_M]
    masks_Mhw = places.cut(places.uncut(masks_Mhw[None], boxes_M4.detach()[None]), box_M4[None])[0]
    points_MP2 = points_near(box_M4[:, None].expand(-1, LEARNT_POINTS, -1))
    truth_MP = truth_at(things.masks_IHW[pairs.thing_M], points_MP2)
    said_MP = masks_at(masks_Mhw[:, None], points_MP2)[:, 0]
    entropy_M = F.binary_cross_entropy_with_logits(said_MP, truth_MP, reduction="none").mean(1)
    p_MP = said_MP.sigmoid()
    dice_M = 1 - (2 * (p_MP * truth_MP).sum(1) + 1) / (p_MP.sum(1) + truth_MP.sum(1) + 1)
    side_M, overlap_M = (boxes_M4 - box_M4).abs().sum(1), overlap(boxes_M4, box_M4)
    each_M = MASK_WEIGHT * entropy_M + DICE_WEIGHT * dice_M + BOX_WEIGHT * side_M + OVERLAP_WEIGHT * (1 - overlap_M)
    return each_M.sum()


def cross_entropies(said_QP: Tensor, truth_IP: Tensor, where_IP: Tensor) -> Tensor:
    """Binary cross-entropy of every query's logits with every thing where `where_IP` is 1, over all points: (Q, I)."""
    inside_QP, outside_QP = F.softplus(-said_QP), F.softplus(said_QP)
    each_QI = inside_QP @ (truth_IP * where_IP).T + outside_QP @ ((1 - truth_IP) * where_IP).T
    return each_QI / said_QP.shape[1]


def dice_distances(p_QP: Tensor, truth_IP: Tensor, where_IP: Tensor) -> Tensor:
    """1 - Dice of every query with every thing where `where_IP` is 1 (Milletari 2016, one added above and below): (Q, I)."""
    both_QI = 2 * (p_QP @ (truth_IP * where_IP).T)
    return 1 - (both_QI + 1) / (p_QP @ where_IP.T + truth_IP.sum(1)[None] + 1)


def overlap(ours_4: Tensor, theirs_4: Tensor) -> Tensor:
    """Generalized intersection over union of boxes (..., 4), -1 to 1 (Rezatofighi 2019)."""
    a_4, b_4 = corners(ours_4), corners(theirs_4)
    inner = _area((torch.minimum(a_4[..., 2:], b_4[..., 2:]) - torch.maximum(a_4[..., :2], b_4[..., :2])).clamp_min(0))
    outer = _area(torch.maximum(a_4[..., 2:], b_4[..., 2:]) - torch.minimum(a_4[..., :2], b_4[..., :2]))
    union = _area(ours_4[..., 2:]) + _area(theirs_4[..., 2:]) - inner
    return inner / union.clamp_min(1e-6) - (outer - union) / outer.clamp_min(1e-6)


def _area(sides_2: Tensor) -> Tensor:
    return sides_2[..., 0] * sides_2[..., 1]  # the gradient of `prod` reads whether there is a zero


def masks_at(masks_NChw: Tensor, points_NP2: Tensor) -> Tensor:
    """Logits (N, C, P) of C masks of each of N at points x, y in 0 to 1 that they share, bilinearly; at the edge of the frame
    those of the last pixel."""
    grid_N1P2 = (2 * points_NP2 - 1)[:, None]
    return F.grid_sample(masks_NChw, grid_N1P2, padding_mode="border", align_corners=False)[:, :, 0]


def truth_at(masks_IHW: Tensor, points_IP2: Tensor) -> Tensor:
    """0 or 1 of the pixel under each point of each mask, (I, P), in float."""
    height, width = masks_IHW.shape[-2:]
    row_IP = (points_IP2[..., 1] * height).long().clamp_max(height - 1)
    column_IP = (points_IP2[..., 0] * width).long().clamp_max(width - 1)
    return masks_IHW.flatten(1).gather(1, row_IP * width + column_IP).float()


def shared_points(things: Things) -> Tensor:
    """MATCHED_POINTS points of each frame, (B, P, 2), near its things, as many for a small one as for a large one; anywhere in
    a frame without things."""
    boxes_BP4 = []
    for box_I4 in things.boxes_I4.split(things.counts):
        if not len(box_I4):
            box_I4 = box_I4.new_tensor([[0.5, 0.5, 1.0, 1.0]])
        boxes_BP4.append(box_I4[torch.randint(len(box_I4), (MATCHED_POINTS,), device=box_I4.device)])
    return points_near(torch.stack(boxes_BP4))


def points_near(boxes_NP4: Tensor) -> Tensor:
    """A point for each box (N, P, 2): NEAR_SHARE of them in the box REACH times as large, the last ones anywhere. Points drawn
    over the whole frame would miss most things: half of a street's have less than a thousandth of it.

    Args:
        boxes_NP4: centre, width and height as shares of the input.
    """
    points_NP2 = torch.rand(*boxes_NP4.shape[:2], 2, device=boxes_NP4.device)
    near = round(NEAR_SHARE * boxes_NP4.shape[1])
    box_NS4 = boxes_NP4[:, :near]
    inside_NS2 = box_NS4[..., :2] + (points_NP2[:, :near] - 0.5) * REACH * box_NS4[..., 2:]
    return torch.cat((inside_NS2.clamp(0.0, 1.0), points_NP2[:, near:]), dim=1)

"""Which query a thing is learnt by, and how far its answer is from it: Mask2Former's matching and losses (Cheng 2022, sections
3.2.3 and 3.3), with boxes as DETR has them (Carion 2020, section 3.2).

Shapes: Q queries, I things, K classes, P points of a frame, h w pixels of mask logits.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from edgeprune.model.heads.instance import corners

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT, BOX_WEIGHT, OVERLAP_WEIGHT = 2.0, 5.0, 5.0, 5.0, 2.0
MATCHED_POINTS, LEARNT_POINTS = 4096, 2048
OVERSAMPLED, UNCERTAIN_SHARE = 3, 0.75  # Kirillov 2020, "PointRend", section 4.3
FAR = 1e4  # a cost that is no number, or larger


@dataclass
class Things:
    """What there is to be found in one frame.

    Attributes:
        classes_I: int64.
        masks_IHW: 0 or 1, bytes, at the input's own pixels.
        boxes_I4: centre, width and height as shares of the input.
    """

    classes_I: Tensor
    masks_IHW: Tensor
    boxes_I4: Tensor


@torch.no_grad()
def match(logits_QK1: Tensor, boxes_Q4: Tensor, masks_Qhw: Tensor, things: Things) -> tuple[Tensor, Tensor]:
    """The queries and the things that belong together at the least cost, as two rows of indices: min(Q, I) pairs.

    Costs are those of `distances`, at points that all pairs share, with the class's probability in place of its logarithm; what is
    no number costs FAR, so that a diverging model is matched and its loss says so.
    """
    if not len(things.classes_I):
        none = torch.zeros(0, dtype=torch.int64, device=logits_QK1.device)
        return none, none
    points_P2 = torch.rand(MATCHED_POINTS, 2, device=masks_Qhw.device)
    said_QP, truth_IP = mask_at(masks_Qhw.float(), points_P2), truth_at(things.masks_IHW, points_P2)
    cost_QI = -CLASS_WEIGHT * logits_QK1.float().softmax(-1)[:, things.classes_I]
    cost_QI = cost_QI + MASK_WEIGHT * _cross_entropies(said_QP, truth_IP)
    cost_QI = cost_QI + DICE_WEIGHT * _dice_distances(said_QP.sigmoid(), truth_IP)
    cost_QI = cost_QI + BOX_WEIGHT * torch.cdist(boxes_Q4.float(), things.boxes_I4, p=1)
    cost_QI = cost_QI - OVERLAP_WEIGHT * overlap(boxes_Q4.float()[:, None], things.boxes_I4[None])
    finite_QI = torch.nan_to_num(cost_QI, nan=FAR, posinf=FAR, neginf=-FAR).clamp(-FAR, FAR)
    queries, found = linear_sum_assignment(finite_QI.cpu().numpy())
    device = logits_QK1.device
    return torch.as_tensor(queries, device=device), torch.as_tensor(found, device=device)


def distances(boxes_M4: Tensor, masks_Mhw: Tensor, things: Things, found_M: Tensor) -> Tensor:
    """How far M queries are from the things that they are matched with, the sum over them: masks by cross-entropy and Dice at the
    points where they are least sure, boxes by their corners' distance and overlap."""
    if not len(found_M):
        return (boxes_M4.sum() + masks_Mhw.sum()) * 0.0
    truth_MHW, box_M4 = things.masks_IHW[found_M], things.boxes_I4[found_M]
    with torch.no_grad():
        points_MP2 = uncertain_points(masks_Mhw.float())
        truth_MP = truth_of_each(truth_MHW, points_MP2)
    said_MP = mask_of_each(masks_Mhw.float(), points_MP2)
    entropy_M = F.binary_cross_entropy_with_logits(said_MP, truth_MP, reduction="none").mean(1)
    p_MP = said_MP.sigmoid()
    dice_M = 1 - (2 * (p_MP * truth_MP).sum(1) + 1) / (p_MP.sum(1) + truth_MP.sum(1) + 1)
    corner_M = (boxes_M4.float() - box_M4).abs().sum(1)
    overlap_M = overlap(boxes_M4.float(), box_M4)
    each_M = MASK_WEIGHT * entropy_M + DICE_WEIGHT * dice_M + BOX_WEIGHT * corner_M + OVERLAP_WEIGHT * (1 - overlap_M)
    return each_M.sum()


def _cross_entropies(said_QP: Tensor, truth_IP: Tensor) -> Tensor:
    """Binary cross-entropy of every query with every thing, mean over the points: (Q, I)."""
    inside_QP, outside_QP = F.softplus(-said_QP), F.softplus(said_QP)
    return (inside_QP @ truth_IP.T + outside_QP @ (1 - truth_IP).T) / said_QP.shape[1]


def _dice_distances(p_QP: Tensor, truth_IP: Tensor) -> Tensor:
    """1 - Dice of every query with every thing (Milletari 2016, with one added above and below): (Q, I)."""
    both_QI = 2 * (p_QP @ truth_IP.T)
    return 1 - (both_QI + 1) / (p_QP.sum(1)[:, None] + truth_IP.sum(1)[None] + 1)


def overlap(ours_4: Tensor, theirs_4: Tensor) -> Tensor:
    """Generalized intersection over union of boxes (..., 4), -1 to 1 (Rezatofighi 2019)."""
    a_4, b_4 = corners(ours_4), corners(theirs_4)
    inner = (torch.minimum(a_4[..., 2:], b_4[..., 2:]) - torch.maximum(a_4[..., :2], b_4[..., :2])).clamp_min(0).prod(-1)
    outer = (torch.maximum(a_4[..., 2:], b_4[..., 2:]) - torch.minimum(a_4[..., :2], b_4[..., :2])).prod(-1)
    union = ours_4[..., 2:].prod(-1) + theirs_4[..., 2:].prod(-1) - inner
    return inner / union.clamp_min(1e-6) - (outer - union) / outer.clamp_min(1e-6)


def mask_at(masks_Qhw: Tensor, points_P2: Tensor) -> Tensor:
    """Logits (Q, P) at points x, y in 0 to 1 that all share, bilinearly."""
    grid_11P2 = (2 * points_P2 - 1)[None, None]
    return F.grid_sample(masks_Qhw[None], grid_11P2, align_corners=False)[0, :, 0]


def mask_of_each(masks_Mhw: Tensor, points_MP2: Tensor) -> Tensor:
    """Logits (M, P), each mask at points of its own."""
    return F.grid_sample(masks_Mhw[:, None], (2 * points_MP2 - 1)[:, None], align_corners=False)[:, 0, 0]


def truth_at(masks_IHW: Tensor, points_P2: Tensor) -> Tensor:
    """Of the pixel under each point 0 or 1, (I, P), in float."""
    height, width = masks_IHW.shape[-2:]
    row_P = (points_P2[:, 1] * height).long().clamp_max(height - 1)
    column_P = (points_P2[:, 0] * width).long().clamp_max(width - 1)
    return masks_IHW[:, row_P, column_P].float()


def truth_of_each(masks_MHW: Tensor, points_MP2: Tensor) -> Tensor:
    """As `truth_at`, each mask at points of its own."""
    height, width = masks_MHW.shape[-2:]
    row_MP = (points_MP2[..., 1] * height).long().clamp_max(height - 1)
    column_MP = (points_MP2[..., 0] * width).long().clamp_max(width - 1)
    return masks_MHW.flatten(1).gather(1, row_MP * width + column_MP).float()


def uncertain_points(masks_Mhw: Tensor) -> Tensor:
    """LEARNT_POINTS points (M, P, 2) of each mask: UNCERTAIN_SHARE of them those where its logit is nearest to 0, of OVERSAMPLED
    times as many drawn at random, the rest at random (Kirillov 2020, "PointRend", section 4.3)."""
    masks, device = len(masks_Mhw), masks_Mhw.device
    sure = round(UNCERTAIN_SHARE * LEARNT_POINTS)
    drawn_MP2 = torch.rand(masks, OVERSAMPLED * LEARNT_POINTS, 2, device=device)
    near_MP = -mask_of_each(masks_Mhw, drawn_MP2).abs()
    place_MP = near_MP.topk(sure, dim=1).indices
    chosen_MP2 = drawn_MP2.gather(1, place_MP[..., None].expand(-1, -1, 2))
    return torch.cat((chosen_MP2, torch.rand(masks, LEARNT_POINTS - sure, 2, device=device)), dim=1)

"""Losses: cross-entropy with ignored pixels, soft Jaccard, and distillation from the dense phase. None of them reads a value
back from the device. What is no mean over images is taken over the batch of all processes (`model/global_batch.py`).

Shapes: B batch, K classes, H W pixels of the logits, N tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.model.global_batch import batch_sum


def class_weights(histogram: list[float], exponent: float) -> Tensor | None:
    """Weights (K,) proportional to frequency ** -exponent, of mean 1 over the classes; None for exponent 0."""
    if exponent == 0:
        return None
    frequency = torch.tensor(histogram, dtype=torch.float64)
    frequency = (frequency / frequency.sum()).clamp_min(1e-6)
    weights = frequency.pow(-exponent)
    return (weights / weights.mean()).float()


def cross_entropy(
    logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int, weights_K: Tensor | None, smoothing: float
) -> Tensor:
    """Mean cross-entropy at the logits' resolution; 0 where all is ignored."""
    labels_BHW = labels_at(labels_BHW, logits_BKHW)
    loss = F.cross_entropy(
        logits_BKHW.float(), labels_BHW, weight=weights_K, ignore_index=ignore_index, label_smoothing=smoothing
    )
    # a mean over nothing would be NaN, and every weight with it
    return torch.where((labels_BHW != ignore_index).any(), loss, 0.0)


def counted_pixels(labels_BHW: Tensor, stride: int, ignore_index: int, weights_K: Tensor | None) -> Tensor:
    """What the mean of `cross_entropy` divides by: the pixels with a class, each by its class's weight.

    Args:
        stride: of the logits.
    """
    labels_BHW = _every(labels_BHW, stride)
    counted_BHW = labels_BHW != ignore_index
    if weights_K is None:
        return counted_BHW.sum().float()
    return (weights_K[labels_BHW.masked_fill(~counted_BHW, 0)] * counted_BHW).sum()


def labels_at(labels_BHW: Tensor, logits_BKHW: Tensor) -> Tensor:
    """The labels at the logits' coarser resolution: of two pixels every second, never a mixture."""
    return _every(labels_BHW, labels_BHW.shape[-1] // logits_BKHW.shape[-1])


def _every(labels_BHW: Tensor, stride: int) -> Tensor:
    return labels_BHW[:, stride // 2 :: stride, stride // 2 :: stride]


def jaccard_distance(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """1 - soft IoU, mean over the classes present in the batch: sum(p y) / sum(p + y - p y) (Rahman and Wang 2016, eq. 3).

    Cross-entropy counts pixels, mIoU counts classes: a pole of 30 pixels weighs here what the road weighs. The sums run
    over the batch of all processes, for a class of a single image is a few pixels. 0 where all is ignored.
    """
    labels_BHW = labels_at(labels_BHW, logits_BKHW)
    counted_B1HW = (labels_BHW != ignore_index)[:, None]
    p_BKHW = logits_BKHW.float().softmax(dim=1) * counted_B1HW
    classes = logits_BKHW.shape[1]
    # the ignored pixels' index may lie outside the classes
    y_BKHW = F.one_hot(labels_BHW.masked_fill(~counted_B1HW[:, 0], 0), classes).permute(0, 3, 1, 2) * counted_B1HW
    both_K = batch_sum((p_BKHW * y_BKHW).sum(dim=(0, 2, 3)))
    size_K = batch_sum(y_BKHW.sum(dim=(0, 2, 3)))
    iou_K = both_K / (batch_sum(p_BKHW.sum(dim=(0, 2, 3))) + size_K - both_K).clamp_min(1e-6)
    present_K = size_K > 0
    return ((1 - iou_K) * present_K).sum() / present_K.sum().clamp_min(1)


def distance_to_teacher(logits_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """KL divergence of the class probabilities from the teacher's, mean over pixels (Hinton 2015, temperature 1)."""
    log_p, log_q = F.log_softmax(logits_BKHW.float(), dim=1), F.log_softmax(teacher_BKHW.float(), dim=1)
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1).mean()


def distance_to_tokens(x_BND: Tensor, teacher_BND: Tensor) -> Tensor:
    """Squared distance of the final tokens from the teacher's, as a share of the teacher's own mean square.

    DynamicViT's token distillation (Rao 2021, eq. 12) over every token: what was let go reaches the head here too.
    """
    teacher_BND = teacher_BND.float()
    distance = batch_sum((x_BND.float() - teacher_BND).square().mean())
    return distance / batch_sum(teacher_BND.square().mean())

"""Losses: cross-entropy with ignored pixels, and distillation from the dense phase.

Shapes: B batch, K classes, H W pixels of the logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def class_weights(histogram: list[int], exponent: float) -> Tensor | None:
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
    """Mean cross-entropy at the logits' resolution; labels are taken at every second pixel. 0 where all are ignored."""
    stride = labels_BHW.shape[-1] // logits_BKHW.shape[-1]
    labels_BHW = labels_BHW[:, stride // 2 :: stride, stride // 2 :: stride]
    if not (labels_BHW != ignore_index).any():
        return logits_BKHW.float().sum() * 0  # a mean over nothing would be NaN, and every weight with it
    return F.cross_entropy(
        logits_BKHW.float(), labels_BHW, weight=weights_K, ignore_index=ignore_index, label_smoothing=smoothing
    )


def distance_to_teacher(logits_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """KL divergence of the class probabilities from the teacher's, mean over pixels (Hinton 2015, temperature 1)."""
    log_p, log_q = F.log_softmax(logits_BKHW.float(), dim=1), F.log_softmax(teacher_BKHW.float(), dim=1)
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1).mean()

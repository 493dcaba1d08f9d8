"""Losses: cross-entropy of all labelled pixels or of the hard ones, soft Jaccard, Dice, and distillation from the dense phase.
None of them reads a value back from the device. What is no mean over images is taken over the batch of all processes
(`model/global_batch.py`).

Shapes: B batch, K classes, H W pixels of the logits, N tokens, D width.
"""

import math

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
    if smoothing and weights_K is not None:
        each_BHW = _cross_entropies(logits_BKHW, labels_BHW, ignore_index, weights_K, smoothing)
        loss = each_BHW.sum() / _pixel_weights(labels_BHW, ignore_index, weights_K).sum().clamp_min(1e-6)
    else:
        loss = F.cross_entropy(
            logits_BKHW.float(), labels_BHW, weight=weights_K, ignore_index=ignore_index, label_smoothing=smoothing
        )
    # a mean over nothing would be NaN, and every weight with it
    return torch.where((labels_BHW != ignore_index).any(), loss, 0.0)


def _cross_entropies(
    logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int, weights_K: Tensor | None, smoothing: float
) -> Tensor:
    """Of each pixel (B, H, W), by the weight of its class; 0 where it is ignored. What smoothing takes from the pixel's class
    is spread evenly: torch would spread it by the weights, most of it to a class that no pixel has."""
    sharp_BHW = F.cross_entropy(logits_BKHW.float(), labels_BHW, weights_K, ignore_index=ignore_index, reduction="none")
    if not smoothing:
        return sharp_BHW
    even_BHW = -logits_BKHW.float().log_softmax(1).mean(1) * _pixel_weights(labels_BHW, ignore_index, weights_K)
    return (1 - smoothing) * sharp_BHW + smoothing * even_BHW


def counted_pixels(labels_BHW: Tensor, stride: int, ignore_index: int, weights_K: Tensor | None) -> Tensor:
    """What the mean of `cross_entropy` divides by: the pixels with a class, each by its class's weight.

    Args:
        stride: of the logits.
    """
    return _pixel_weights(_every(labels_BHW, stride), ignore_index, weights_K).sum()


def _pixel_weights(labels_BHW: Tensor, ignore_index: int, weights_K: Tensor | None) -> Tensor:
    """Of each pixel the weight of its class, 1 without `weights_K`; 0 where it is ignored."""
    counted_BHW = labels_BHW != ignore_index
    if weights_K is None:
        return counted_BHW.float()
    return weights_K[labels_BHW.masked_fill(~counted_BHW, 0)] * counted_BHW


def hard_cross_entropy(
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    ignore_index: int,
    weights_K: Tensor | None,
    smoothing: float,
    threshold: float,
    least: float,
) -> Tensor:
    """Mean cross-entropy over the hard pixels of the batch of all processes, by their classes' weights; 0 where all is
    ignored. See `hard_pixels`."""
    labels_BHW = labels_at(labels_BHW, logits_BKHW)
    each_BHW = _cross_entropies(logits_BKHW, labels_BHW, ignore_index, weights_K, smoothing)
    hard_BHW = hard_pixels(logits_BKHW.detach(), labels_BHW, ignore_index, threshold, least)
    weight_BHW = _pixel_weights(labels_BHW, ignore_index, weights_K) * hard_BHW
    total, count = batch_sum(torch.stack(((each_BHW * hard_BHW).sum(), weight_BHW.sum()))).unbind()
    return total / count.clamp_min(1e-6)


def hard_pixels(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int, threshold: float, least: float) -> Tensor:
    """Online hard example mining, (B, H, W) boolean: pixels whose class has less probability than `threshold`, and at least
    the share `least` of each image's labelled pixels, the hardest first.

    Shrivastava 2016 takes a number of the hardest of each image; the threshold is mmsegmentation's (`OHEMPixelSampler`), which
    counts its `min_kept` over the images of a GPU together. By image, a selection does not hang on who shares the batch.

    Args:
        labels_BHW: at the logits' resolution.
    """
    counted_BHW = labels_BHW != ignore_index
    labels_B1HW = labels_BHW.masked_fill(~counted_BHW, 0)[:, None]
    p_BHW = logits_BKHW.float().softmax(dim=1).gather(1, labels_B1HW)[:, 0]
    rising_BP = p_BHW.masked_fill(~counted_BHW, 2.0).flatten(1).sort(dim=1).values
    count_B1 = (least * counted_BHW.flatten(1).sum(dim=1, keepdim=True)).ceil().long()
    last_B1 = rising_BP.gather(1, (count_B1 - 1).clamp_min(0))
    return counted_BHW & ((p_BHW < threshold) | (p_BHW <= last_B1[..., None]))


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
    p_BKHW, y_BKHW = _probabilities_and_truth(logits_BKHW, labels_BHW, ignore_index)
    both_K = batch_sum((p_BKHW * y_BKHW).sum(dim=(0, 2, 3)))
    size_K = batch_sum(y_BKHW.sum(dim=(0, 2, 3)))
    iou_K = both_K / (batch_sum(p_BKHW.sum(dim=(0, 2, 3))) + size_K - both_K).clamp_min(1e-6)
    return _mean_over_present(1 - iou_K, size_K)


def dice_distance(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """1 - Dice, mean over the classes present in the batch: 2 sum(p y) / (sum(p^2) + sum(y^2)) (Milletari 2016, section 3).
    The sums run over the batch of all processes. 0 where all is ignored."""
    p_BKHW, y_BKHW = _probabilities_and_truth(logits_BKHW, labels_BHW, ignore_index)
    both_K = batch_sum((p_BKHW * y_BKHW).sum(dim=(0, 2, 3)))
    size_K = batch_sum(y_BKHW.sum(dim=(0, 2, 3)))  # y is 0 or 1, and so its own square
    squares_K = batch_sum(p_BKHW.square().sum(dim=(0, 2, 3)))
    return _mean_over_present(1 - 2 * both_K / (squares_K + size_K).clamp_min(1e-6), size_K)


def _probabilities_and_truth(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """p of each class and y, ones in the class that a pixel has; both 0 where a pixel is ignored."""
    labels_BHW = labels_at(labels_BHW, logits_BKHW)
    counted_B1HW = (labels_BHW != ignore_index)[:, None]
    p_BKHW = logits_BKHW.float().softmax(dim=1) * counted_B1HW
    classes = logits_BKHW.shape[1]
    # the ignored pixels' index may lie outside the classes
    y_BKHW = F.one_hot(labels_BHW.masked_fill(~counted_B1HW[:, 0], 0), classes).permute(0, 3, 1, 2) * counted_B1HW
    return p_BKHW, y_BKHW


def _mean_over_present(distance_K: Tensor, size_K: Tensor) -> Tensor:
    present_K = size_K > 0
    return (distance_K * present_K).sum() / present_K.sum().clamp_min(1)


def distance_to_teacher(logits_BKHW: Tensor, *teachers_BKHW: Tensor) -> Tensor:
    """KL divergence of the class probabilities from the teacher's, mean over pixels (Hinton 2015, temperature 1); of several
    teachers from the arithmetic mean of their probabilities.

    A teacher whose logits are finer or coarser is read at the student's stride: its logits are interpolated bilinearly, and
    probabilities are taken, and averaged, after that.
    """
    log_p = F.log_softmax(logits_BKHW.float(), dim=1)
    log_qs = [F.log_softmax(_resized(each_BKHW, logits_BKHW), dim=1) for each_BKHW in teachers_BKHW]
    log_q = log_qs[0]
    if len(log_qs) > 1:  # of a sum of exponentials, which would underflow before their logarithm is taken
        log_q = torch.logsumexp(torch.stack(log_qs), dim=0) - math.log(len(log_qs))
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1).mean()


def _resized(logits_BKHW: Tensor, like_BKHW: Tensor) -> Tensor:
    """Logits at the stride of others, in FP32."""
    if logits_BKHW.shape[-2:] == like_BKHW.shape[-2:]:
        return logits_BKHW.float()
    return F.interpolate(logits_BKHW.float(), like_BKHW.shape[-2:], mode="bilinear", align_corners=False)


def distance_to_tokens(x_BND: Tensor, teacher_BND: Tensor) -> Tensor:
    """Squared distance of the final tokens from the teacher's, as a share of the teacher's own mean square.

    DynamicViT's token distillation (Rao 2021, eq. 12) over every token: what was let go reaches the head here too.
    """
    teacher_BND = teacher_BND.float()
    distance = batch_sum((x_BND.float() - teacher_BND).square().mean())
    return distance / batch_sum(teacher_BND.square().mean())

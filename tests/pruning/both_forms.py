"""A method that ends in logits, against the same as a list of tokens kept by loops: in both of its forms."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_top
from tests import models

IMAGES = 2


@torch.no_grad()
def both_forms(model: Segmenter, counts: Sequence[int]) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Each image (3, H, W) with its logits (K, H/2, W/2): of the masked form, all images at once, and of the gathered one."""
    images_B3HW = models.images(IMAGES)
    masked_BKHW = model(images_B3HW, select_top(model.policy.schedule.candidates(counts))).raw
    for image_3HW, masked_KHW in zip(images_B3HW, masked_BKHW, strict=True):
        x_ND, skips, scores_S = model.trunk(image_3HW.permute(1, 2, 0).to(torch.uint8))
        yield image_3HW, (masked_KHW, model.tail(x_ND, skips, scores_S, counts)[0])


def check_logits(forms: Sequence[Tensor], expected_KHW: Tensor) -> None:
    """Every form says what the loops say."""
    for logits_KHW in forms:
        torch.testing.assert_close(logits_KHW, expected_KHW, rtol=1e-3, atol=1e-3)


def selections(model: Segmenter, image_3HW: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """What the gathered form selects of one image."""
    state = model.trunk(image_3HW.permute(1, 2, 0).to(torch.uint8))
    return model.tail_with_selections(*state, counts)[1]

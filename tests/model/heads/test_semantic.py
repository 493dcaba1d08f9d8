"""The semantic head's answer, and where rounding may change it."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgeprune.base.errors import InputError
from edgeprune.model.heads import HEADS
from edgeprune.model.heads.semantic import MARGIN, PyramidHead
from edgeprune.model.spec import ModelSpec
from edgeprune.quantize.loading import make_model
from tests import models


def test_labels_are_the_best_classes_and_ties_are_not_sure() -> None:
    head = PyramidHead(192, ModelSpec(classes=3), ())
    logits_1KHW = torch.tensor([[1.0, 3.0, 0.0], [2.0, 3.0 + MARGIN / 2, 5.0], [0.0, -9.0, 5.0 - 2 * MARGIN]])[
        None, :, None
    ]
    (labels_HW,) = head.decide(logits_1KHW)
    assert labels_HW.tolist() == [[1, 1, 1]]
    assert head.sure(logits_1KHW).tolist() == [[True, False, True]]
    assert head.decided_from(logits_1KHW)[0] is logits_1KHW


def test_confidence_is_the_margin_of_the_two_most_probable_classes() -> None:
    head = PyramidHead(192, ModelSpec(classes=5), ())
    assert head.outputs == ("labels",)
    head.with_confidence = True
    logits_1KHW = 4 * torch.randn(1, 5, 6, 9, generator=torch.Generator().manual_seed(1))
    logits_1KHW[..., 0, 0] = torch.tensor([2.0, 7.0, 7.0, 0.0, 7.0])  # three best: a tie
    logits_1KHW[..., 0, 1] = torch.tensor([3e4, 1.0, 2.0, -3e4, 0.0])
    labels_HW, confidence_HW = head.decide(logits_1KHW)
    assert head.outputs == ("labels", "confidence")
    torch.testing.assert_close(labels_HW, logits_1KHW.argmax(1)[0])
    best_2HW = logits_1KHW.softmax(dim=1).topk(2, dim=1).values[0]
    torch.testing.assert_close(confidence_HW, (255 * (best_2HW[0] - best_2HW[1])).round().to(torch.int32))
    assert confidence_HW[0, :2].tolist() == [0, 255]
    decided_from = head.decided_from(logits_1KHW)
    assert decided_from[0] is logits_1KHW and torch.equal(decided_from[1], confidence_HW)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("convolutions", "channels"), [("full", (16, 32, 64, 64, 32)), ("half", (8, 16, 32, 32, 16))])
def test_convolutions_and_the_label_stride(convolutions: str, channels: tuple[int, ...], stride: int) -> None:
    """What of a model is finer than a patch, at either number of channels; labels of either size."""
    card = models.card("dense", depth=1, stem="patch-conv")
    spec = card.model.model_dump() | {"convolutions": convolutions, "label_stride": stride}
    card.model = ModelSpec.model_validate(spec)
    model = models.model(card)
    found = [
        module.out_channels
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    assert tuple(found) == channels
    with torch.no_grad():
        (labels_HW,) = model.head.decide(model(models.images(1)).raw)
    assert labels_HW.shape == (models.HEIGHT // stride, models.WIDTH // stride)


def test_labels_of_four_pixels_need_patches_of_whole_ones() -> None:
    with pytest.raises(ValidationError, match="patches of 14 are no whole labels of 4 pixels; choose 2"):
        ModelSpec(stem="patch", patch=14, height=56, width=56, label_stride=4)


@pytest.mark.parametrize("task", HEADS)
def test_every_head_answers_under_its_names(task: str) -> None:
    """Ids are whole numbers, of the first frame alone; what they are decided from stands beside them, one for one."""
    card = models.card("dense", depth=1, stem="conv")
    card.model.task = task
    model = models.model(card)
    with torch.no_grad():
        raw = model(models.images(2)).raw
        answers, first = model.head.decide(raw), model.head.decide(model(models.images(1)).raw)
    assert len(answers) == len(model.head.outputs) == len(model.head.decided_from(raw))
    for name, answer, alone in zip(model.head.outputs, answers, first, strict=True):
        # rounding moves a level of a mask, of 0 to 255, over its limit to the next
        torch.testing.assert_close(answer, alone, rtol=1e-4, atol=1 if name == "masks" else 1e-4)
    assert models.HEIGHT % model.head.label_stride == models.WIDTH % model.head.label_stride == 0


def test_an_unknown_task_is_answered_with_the_choices() -> None:
    card = models.card("dense")
    card.model.task = "semntic"
    with pytest.raises(InputError, match=r"unknown task 'semntic'.*did you mean 'semantic'"):
        make_model(card)

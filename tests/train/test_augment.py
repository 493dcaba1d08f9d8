"""Random windows, flips and colours: labels move with their pixels."""

import pytest
import torch
import torch.nn.functional as F

from edgeprune.train.augment import Augment
from edgeprune.train.recipe import AugmentSpec

STILL = {"scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0}


def levels(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose red channel is 20 times the label, in cells of 16 pixels."""
    labels_BHW = torch.randint(1, 11, (batch, 4, 6)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    images_B3HW = torch.stack([labels_BHW * 20, labels_BHW * 0 + 128, labels_BHW * 0 + 128], 1)
    return images_B3HW.to(torch.uint8), labels_BHW.to(torch.uint8)


@pytest.mark.parametrize("crop", [None, (48, 64)])
def test_labels_move_with_their_pixels(crop: tuple[int, int] | None) -> None:
    torch.manual_seed(0)
    images_B3HW, labels_BHW = levels(8)
    spec = AugmentSpec.model_validate(STILL | {"scale": (0.6, 2.0), "flip": 0.5})
    images_B3HW, labels_BHW = Augment(spec, (64, 96), crop, 255)(images_B3HW, labels_BHW)
    assert images_B3HW.shape == (8, 3, *(crop or (64, 96))) and labels_BHW.shape == (8, *(crop or (64, 96)))
    # away from edges, where bilinear and nearest agree
    flat_BHW = (
        -F.max_pool2d(-labels_BHW[:, None].float(), 5, 1, 2)[:, 0]
        == F.max_pool2d(labels_BHW[:, None].float(), 5, 1, 2)[:, 0]
    )
    inside_BHW = (flat_BHW & (labels_BHW != 255))[:, 2:-2, 2:-2]
    assert inside_BHW.float().mean() > 0.2
    difference_BHW = (images_B3HW[:, 0] - labels_BHW * 20).abs()[:, 2:-2, 2:-2]
    assert difference_BHW[inside_BHW].max() < 2


def test_a_flip_flips_both() -> None:
    images_B3HW, labels_BHW = levels(2)
    augment = Augment(AugmentSpec.model_validate(STILL | {"flip": 1.0}), (64, 96), None, 255)
    labels_BHW[..., :48], images_B3HW[:, 0, :, :48] = 1, 20
    labels_BHW[..., 48:], images_B3HW[:, 0, :, 48:] = 9, 180
    torch.manual_seed(0)
    images_B3HW, flipped_BHW = augment(images_B3HW, labels_BHW)
    seen_BHW = torch.where(flipped_BHW == 255, -1, flipped_BHW)
    for column in (2, 93):  # shifted by a tenth at most: the sides have swapped
        inside = seen_BHW[:, 20:44, column]
        expected = 9 if column < 48 else 1
        assert ((inside == expected) | (inside == -1)).all()


@pytest.mark.parametrize("crop", [None, (32, 48)])
def test_windows_are_of_the_scale_and_never_leave_the_frame(crop: tuple[int, int] | None) -> None:
    """A frame whose levels tell where a pixel was: how far a window reaches, and that all of it shows the frame."""
    across_HW = torch.linspace(0, 1, 96).expand(64, 96)
    images_B3HW = (torch.stack((across_HW, across_HW, across_HW)) * 255).byte().expand(32, 3, 64, 96)
    labels_BHW = torch.ones(32, 64, 96, dtype=torch.uint8)
    torch.manual_seed(0)
    for scale, largest in ((2.0, 0.5), (1.0, 1.0)):
        spec = AugmentSpec.model_validate(STILL | {"scale": (scale, scale)})
        shown_B3HW, moved_BHW = Augment(spec, (64, 96), crop, 255)(images_B3HW, labels_BHW)
        assert (moved_BHW == 1).all()
        reach_B = (shown_B3HW[:, 0].amax((1, 2)) - shown_B3HW[:, 0].amin((1, 2))) / 255
        expected = largest * (0.5 if crop else 1.0)
        assert expected / 1.12 < reach_B.mean() < expected * 1.12
        middle_B = shown_B3HW[:, 0].mean((1, 2)) / 255
        assert expected == 1.0 or middle_B.min() < 0.4 < 0.6 < middle_B.max()  # windows from all over the frame


def test_ignored_pixels_stay_ignored_and_class_0_stays_class_0() -> None:
    images_B3HW = torch.full((2, 3, 64, 96), 128, dtype=torch.uint8)
    labels_BHW = torch.zeros(2, 64, 96, dtype=torch.uint8)
    labels_BHW[:, 32:] = 11
    torch.manual_seed(0)
    _, moved_BHW = Augment(AugmentSpec.model_validate(STILL), (64, 96), None, 11)(images_B3HW, labels_BHW)
    assert set(moved_BHW.unique().tolist()) == {0, 11}
    assert moved_BHW[:, 24, 40].tolist() == [0, 0] and moved_BHW[:, 44, 40].tolist() == [11, 11]


def test_colour_changes_keep_type_and_range_and_leave_labels_alone() -> None:
    torch.manual_seed(0)
    images_B3HW, labels_BHW = levels(16)
    spec = AugmentSpec(scale=(1.0, 1.0), flip=0.0, colour=1.0, blur=1.0, noise=1.0, grey=0.5)
    changed_B3HW, moved_BHW = Augment(spec, (64, 96), None, 255)(images_B3HW, labels_BHW)
    assert changed_B3HW.dtype == torch.float32 and moved_BHW.dtype == torch.int64
    assert changed_B3HW.min() >= 0 and changed_B3HW.max() <= 255 and changed_B3HW.max() > 100
    assert set(moved_BHW.unique().tolist()) <= {*range(1, 11), 255}
    assert (changed_B3HW[:, 1] - 128).abs().mean() > 5


def test_the_same_seed_augments_the_same() -> None:
    images_B3HW, labels_BHW = levels()
    augment = Augment(AugmentSpec(), (64, 96), None, 255)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(augment(images_B3HW, labels_BHW))
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])

"""Random windows of the frame, flips and colour, by kornia, and things pasted from one sample to the next.

Shapes: B batch, H W pixels.
"""

import kornia.augmentation as K
import torch
from kornia.constants import DataKey, Resample
from torch import Tensor, nn

from edgeprune.config import AugmentSpec

SMALL = 0.1  # a class is pasted from a sample where it covers less than this share


class Augment(nn.Module):
    """Images and labels together. A window of the frame, never larger than it, is resized to the crop: every pixel that a
    step computes shows something (a shift that uncovers black wastes a fifth of the work)."""

    def __init__(self, spec: AugmentSpec, frame: tuple[int, int], crop: tuple[int, int] | None, ignore_index: int):
        super().__init__()
        self.ignore_index = ignore_index
        self.paste = spec.paste
        (height, width), (smallest, largest) = crop or frame, spec.scale
        share = height * width / (frame[0] * frame[1])
        area = (min(1.0, share / largest**2), min(1.0, share / smallest**2))
        aspect = width / height
        steps: list[nn.Module] = [
            K.RandomHorizontalFlip(p=spec.flip),
            K.RandomResizedCrop((height, width), scale=area, ratio=(aspect / 1.1, aspect * 1.1), p=1.0),
            # saturation against the grey image, white balance by shifts: a sixth of the time of a way through HSV
            K.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.4, p=spec.colour),
            K.RandomRGBShift(0.04, 0.04, 0.04, p=spec.colour / 2),
            K.RandomGamma((0.7, 1.5), p=spec.colour / 2),
            K.RandomGrayscale(p=spec.grey),
            K.RandomGaussianBlur((5, 5), (0.3, 1.5), p=spec.blur),
            K.RandomGaussianNoise(std=0.03, p=spec.noise),
        ]
        self.steps = K.AugmentationSequential(
            *steps,  # type: ignore[arg-type]
            data_keys=["input", "mask"],
            extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None}},
        )

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images and uint8 labels -> float levels 0-255 and int64 labels."""
        # kornia fills with zeros, so labels travel one higher and zero comes back as "ignore"
        shifted_B1HW = labels_BHW[:, None].float() + 1
        images_B3HW, shifted_B1HW = self.steps(images_B3HW.float() / 255, shifted_B1HW)
        labels_BHW = shifted_B1HW[:, 0].round().long() - 1
        labels_BHW[labels_BHW < 0] = self.ignore_index
        if self.paste:
            images_B3HW, labels_BHW = paste_things(images_B3HW, labels_BHW, self.paste, self.ignore_index)
        return images_B3HW.clamp(0, 1) * 255, labels_BHW


def paste_things(images_B3HW: Tensor, labels_BHW: Tensor, share: float, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Each sample, with probability `share`, gets things of its neighbour in the batch where they stood (ClassMix, Olsson
    2021, and Copy-Paste, Ghiasi 2021): each class that is small there (`SMALL`), with probability 1/2. The small classes
    of road scenes - poles, signs, people - are what few frames show, and this shows each of them before many grounds."""
    device = labels_BHW.device
    from_B3HW, from_BHW = images_B3HW.roll(1, 0), labels_BHW.roll(1, 0)
    gets_B = torch.rand(len(labels_BHW)).to(device) < share
    pasted_BHW = torch.zeros_like(labels_BHW, dtype=torch.bool)
    for index in labels_BHW[labels_BHW != ignore_index].unique().tolist():
        things_BHW = from_BHW == index
        chosen_B = gets_B & (torch.rand(len(labels_BHW)).to(device) < 0.5) & (things_BHW.float().mean((1, 2)) < SMALL)
        pasted_BHW |= things_BHW & chosen_B[:, None, None]
    return (
        torch.where(pasted_BHW[:, None], from_B3HW, images_B3HW),
        torch.where(pasted_BHW, from_BHW, labels_BHW),
    )

"""Random windows of the frame, flips and colour, by kornia, on whole batches.

Shapes: B batch, H W pixels.
"""

import kornia.augmentation as K
import torch
from kornia.constants import DataKey, Resample
from torch import Tensor, nn

from edgeprune.train.recipe import AugmentSpec


class Augment(nn.Module):
    """Images and labels together. A window of the frame, never larger than it, is resized to the crop: every pixel that a
    step computes shows something (a shift that uncovers black wastes a fifth of the work)."""

    def __init__(self, spec: AugmentSpec, frame: tuple[int, int], crop: tuple[int, int] | None, ignore_index: int):
        super().__init__()
        self.ignore_index = ignore_index
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
    def with_planes(
        self, images_B3HW: Tensor, labels_BHW: Tensor, planes_BPHW: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, and bytes (B, P, H, W) that move along with the labels; 0 is nothing in each."""
        # kornia fills with zeros, so labels travel one higher and zero comes back as "ignore"
        stack_BCHW = torch.cat((labels_BHW[:, None].float() + 1, planes_BPHW.float()), dim=1)
        images_B3HW, stack_BCHW = self.steps(images_B3HW.float() / 255, stack_BCHW)
        labels_BHW = stack_BCHW[:, 0].round().long() - 1
        labels_BHW = labels_BHW.masked_fill(labels_BHW < 0, self.ignore_index)
        return images_B3HW.clamp(0, 1) * 255, labels_BHW, stack_BCHW[:, 1:].round().to(torch.uint8)

    def forward(self, images_B3HW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images and uint8 labels -> float levels 0-255 and int64 labels."""
        return self.with_planes(images_B3HW, labels_BHW, labels_BHW[:, None][:, :0])[:2]

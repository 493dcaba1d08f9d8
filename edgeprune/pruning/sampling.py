"""Sampled decisions: hard Gumbel-softmax over keep and drop, with noise that may fade; and images that are not sampled.

Shapes: B batch, N tokens.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from edgeprune.base.reading import Strict
from edgeprune.model.global_batch import place_in_step


class SampledOptions(Strict):
    """Settings of every policy whose decisions are sampled in training."""

    temperature: float = Field(
        1.0, gt=0, description="of the Gumbel noise: the lower, the harder a gate decides in training"
    )
    anneal: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the sparse phase after which decisions are made without noise; 0: sampled throughout",
    )

    def sample(self, scores_BN: Tensor, progress: float) -> Tensor:
        """Keep masks of zeros and ones with the straight-through gradient (Jang 2017), of log p(keep) - log p(drop).

        The difference of two Gumbel draws is one logistic draw. `anneal` fades it: a gate near p = 0.4 that is sampled
        to the end trains the blocks on random selections, and its own best tokens are then a worse choice than random.

        Args:
            progress: share of the sparse phase that is done.
        """
        noise = max(0.0, 1.0 - progress / self.anneal) if self.anneal else 1.0
        scores_BN = scores_BN.float()
        noise_BN = torch.rand_like(scores_BN).clamp(1e-6, 1 - 1e-6).logit() * noise
        soft_BN = torch.sigmoid((scores_BN + noise_BN) / self.temperature)
        hard_BN = (soft_BN > 0.5).float()
        return hard_BN + (soft_BN - soft_BN.detach())


FEW = 0.25  # of each training batch, where `least` is given


@dataclass(frozen=True)
class Shares:
    """Of the images of a training batch that are computed now: the first `whole` keep every token, the last `few` fewer than
    the target, and the others are sampled.

    Attributes:
        weight: of what gates learn from those that are sampled: a step's parts count by how many they have, with a mean of 1.
    """

    whole: int = 0
    few: int = 0
    weight: float = 1.0

    def sampled(self, images: int) -> slice:
        """Those between."""
        return slice(self.whole, images - self.few)


class WholeImagesOptions(SampledOptions):
    """Settings of policies that may leave images of a training batch whole."""

    full: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each training batch that keeps every token, so that larger buckets come closer to dense",
    )

    @property
    def few(self) -> float:
        """The share of each training batch that has fewer tokens than the target."""
        return 0.0

    def shares(self, images: int) -> Shares:
        """Which of the `images` that are computed here and now are whole, sampled and of few tokens: of a whole step, of all
        its parts and processes, the first keep every token, the last have few, and at least one is sampled."""
        begin, everywhere, part = place_in_step(images)
        whole = min(round(self.full * everywhere), everywhere - 1)
        from_few = everywhere - min(round(self.few * everywhere), everywhere - whole - 1)
        in_part = max(0, min(part.stop, from_few) - max(part.start, whole))
        weight = in_part * everywhere / (len(part) * (from_few - whole))
        return Shares(min(max(whole - begin, 0), images), min(max(begin + images - from_few, 0), images), weight)

"""Averaged weights: what a phase validates and hands on, smoother than those of its last step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of everything in a model's state (Polyak and Juditsky 1992, as in Mean Teacher).

    Attributes:
        tensors: the averaged state; empty where nothing is averaged (decay 0).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.tensors: dict[str, Tensor] = {}
        if decay:
            self.tensors = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follows the model after a step; faster early on, so that the start is forgotten."""
        if not self.tensors:
            return
        decay = min(self.decay, (step + 1) / (step + 10))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[key].lerp_(value, 1 - decay)
            else:
                self.tensors[key].copy_(value)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from a saved average, on the device that the average is on."""
        for key, value in tensors.items():
            self.tensors[key].copy_(value)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Lends the model the averaged weights."""
        if not self.tensors:
            yield
            return
        own = {key: value.detach().clone() for key, value in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)

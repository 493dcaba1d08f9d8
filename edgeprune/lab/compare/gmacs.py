"""The multiply-adds of a frame."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.model.network import Network


def gmacs_of(network: Network, answer: Callable[[], Any]) -> float:
    """Multiply-adds, in 10^9, of what `answer` asks of a network, whose weights learn no more after it."""
    # the counter follows the gradient of whatever a module is given; of a head's queries, which are weights, there is none here
    network.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        answer()
    return counter.get_total_flops() / 2e9

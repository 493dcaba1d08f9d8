"""Ways to compute some of a frame's tokens and to carry the others from the frames before, in plain PyTorch: what they keep of
a dense network's labels decides which becomes graphs.

Each way gets the embedded tokens of one frame and gives the features of all tokens for the head. In its first frame it
computes them all.

Shapes: N tokens of the grid, K of them computed, D width, H heads, E head size.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import log
from typing import cast

import torch
from torch import Tensor, nn

from edgeprune.bundle.memory import group_tokens
from edgeprune.model.blocks import Block, attend


class Buffer:
    """Values of all tokens, of which some are computed anew: a reference (what each was computed from) and what came of it.

    Dutson et al., "Eventful Transformers", ICCV 2023, section 4.1: a gate and the buffer behind it."""

    def __init__(self) -> None:
        self.reference_ND: Tensor | None = None
        self.value: Tensor | None = None

    def farthest(self, x_ND: Tensor, count: int) -> Tensor:
        """Numbers of the tokens that are farthest from their reference (K,), by the norm of the difference."""
        if self.reference_ND is None:
            return torch.arange(len(x_ND))
        return (x_ND - self.reference_ND).norm(dim=-1).topk(count).indices

    def refer(self, x_ND: Tensor, chosen_K: Tensor) -> None:
        """The chosen tokens are computed from `x_ND` now."""
        if self.reference_ND is None:
            self.reference_ND = torch.empty_like(x_ND)
        self.reference_ND[chosen_K] = x_ND[chosen_K]

    def put(self, computed_KD: Tensor, chosen_K: Tensor) -> Tensor:
        """All values (N, D), those of the chosen tokens replaced; the first time all are chosen."""
        if self.value is None:
            self.value = torch.empty_like(computed_KD)
        self.value[chosen_K] = computed_KD
        return self.value


class Carrier(ABC):
    """One way, with what it remembers; one for each stream.

    Args:
        blocks: of the dense network.
        count: tokens that a frame computes after the first, K.
        grid: of the tokens, (Gh, Gw).
    """

    def __init__(self, blocks: nn.ModuleList, count: int, grid: tuple[int, int]) -> None:
        self.blocks, self.count, self.grid = [cast(Block, block) for block in blocks], count, grid
        self.embedded = Buffer()
        self.frames = 0  # seen so far

    def choose(self, x_ND: Tensor) -> Tensor:
        """Numbers of the tokens that this frame computes (K,): those whose embedding has changed the most."""
        return self.embedded.farthest(x_ND, self.count)

    def features(self, x_ND: Tensor) -> Tensor:
        """Embedded tokens (N, D) -> what the last block gives all of them (N, D)."""
        chosen_K = self.choose(x_ND)
        self.embedded.refer(x_ND, chosen_K)
        self.frames += 1
        return self.compute(x_ND, chosen_K)

    @abstractmethod
    def compute(self, x_ND: Tensor, chosen_K: Tensor) -> Tensor:
        """`features`, of the chosen tokens."""


class FinalFeatures(Carrier):
    """The chosen tokens see each other alone; of the others the last block's features are carried."""

    def __init__(self, blocks: nn.ModuleList, count: int, grid: tuple[int, int]) -> None:
        super().__init__(blocks, count, grid)
        self.final = Buffer()

    def compute(self, x_ND: Tensor, chosen_K: Tensor) -> Tensor:
        x_KD = x_ND[chosen_K]
        for block in self.blocks:
            x_KD = block(x_KD)
        return self.final.put(x_KD, chosen_K)


class KeysAndValues(FinalFeatures):
    """The chosen tokens see all: in each block the keys and values of the others are those of the frame that computed them.

    It is what SViT's preserved tokens are if the features that they keep are the last frame's at every block (Liu et al., WACV
    2024, section 3.3), without computing their keys anew."""

    def __init__(self, blocks: nn.ModuleList, count: int, grid: tuple[int, int]) -> None:
        super().__init__(blocks, count, grid)
        self.keys = [Buffer() for _ in blocks]
        self.values = [Buffer() for _ in blocks]

    def compute(self, x_ND: Tensor, chosen_K: Tensor) -> Tensor:
        x_KD = x_ND[chosen_K]
        for number, (block, keys, values) in enumerate(zip(self.blocks, self.keys, self.values, strict=True)):
            q_HKE, k_HKE, v_HKE = block.attn._heads(block.norm1(x_KD))
            k_NHE = keys.put(k_HKE.transpose(0, 1), chosen_K)
            v_NHE = values.put(v_HKE.transpose(0, 1), chosen_K)
            of_HKE = attend(q_HKE, k_NHE.transpose(0, 1), v_NHE.transpose(0, 1), *self.seen(number, chosen_K))
            x_KD = x_KD + block.ls1(block.attn.proj(of_HKE.transpose(0, 1).flatten(1)))
            x_KD = x_KD + block.ls2(block.mlp(block.norm2(x_KD)))
        return self.final.put(x_KD, chosen_K)

    def seen(self, number: int, chosen_K: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Which tokens the chosen ones attend to in a block (N), True for those, and what is added to their logits (N); None:
        all, and nothing."""
        return None, None


class HalfOfKeys(KeysAndValues):
    """The chosen tokens see each other, and of the others half, by turns of the blocks the one and the other colour of a
    checkerboard, each counted twice (`model/memory.py`)."""

    def seen(self, number: int, chosen_K: Tensor) -> tuple[Tensor | None, Tensor | None]:
        seen_N = torch.zeros(self.grid[0] * self.grid[1], dtype=torch.bool)
        seen_N[group_tokens(self.grid, 2)[number % 2]] = True
        weight_N = torch.full((len(seen_N),), log(2))
        seen_N[chosen_K], weight_N[chosen_K] = True, 0.0
        return seen_N, weight_N


class RandomTokens(KeysAndValues):
    """The control: as many tokens, chosen without looking."""

    def choose(self, x_ND: Tensor) -> Tensor:
        return torch.randperm(len(x_ND))[: self.count if self.frames else None]


class InTurns(KeysAndValues):
    """Whole frames and such that compute nothing, in turn: as many tokens on the mean."""

    def choose(self, x_ND: Tensor) -> Tensor:
        every = round(len(x_ND) / self.count)
        return torch.arange(len(x_ND) if self.frames % every == 0 else 0)


class Eventful(Carrier):
    """Eventful Transformers (Dutson et al., ICCV 2023, section 4.2, figure 3): in each block three gates choose K tokens each,
    by how far what they would be computed from is from what they were: before the queries, keys and values, before the
    projection and before the perceptron. Attention is computed of all; the paper's sums of differences are the same values.
    """

    def __init__(self, blocks: nn.ModuleList, count: int, grid: tuple[int, int]) -> None:
        super().__init__(blocks, count, grid)
        self.gates = [[Buffer() for _ in range(3)] for _ in blocks]

    def compute(self, x_ND: Tensor, chosen_K: Tensor) -> Tensor:
        for block, (first, second, third) in zip(self.blocks, self.gates, strict=True):
            qkv_ND = self._gated(first, block.norm1(x_ND), block.attn.qkv)
            q_HNE, k_HNE, v_HNE = qkv_ND.reshape(len(x_ND), 3, block.attn.heads, -1).permute(1, 2, 0, 3)
            mixed_ND = attend(q_HNE, k_HNE, v_HNE, None).transpose(0, 1).flatten(1)
            x_ND = x_ND + block.ls1(self._gated(second, mixed_ND, block.attn.proj))
            x_ND = x_ND + block.ls2(self._gated(third, block.norm2(x_ND), block.mlp))
        return x_ND

    def _gated(self, gate: Buffer, x_ND: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
        chosen_K = gate.farthest(x_ND, self.count)
        gate.refer(x_ND, chosen_K)
        return gate.put(layer(x_ND[chosen_K]), chosen_K)


# what a row is called -> the way
CARRIERS: dict[str, type[Carrier]] = {
    "keys and values": KeysAndValues,
    "half of them": HalfOfKeys,
    "final features": FinalFeatures,
    "eventful gates": Eventful,
    "whole in turns": InTurns,
    "random tokens": RandomTokens,
}

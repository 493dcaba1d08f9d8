"""The layers of the instance head's decoder (Cheng 2022, "Masked-attention Mask Transformer", section 3.2.1), and positions.

Shapes: B batch, N tokens of the grid, Q queries, C channels of a query, H heads, E channels of one, F frequencies or channels
of a place, G of them and one more, P places.
"""

from math import log10, pi

import torch
from torch import Tensor, nn

from edgeprune.model.blocks import FAR_BELOW, gelu

WIDTH, HEADS = 128, 2  # of the queries; a head has 64, which every engine fuses
STRENGTH = 8.0  # of a factor of one: all that a query reads comes from what overlaps its mask
LONGEST, SHORTEST = 1024.0, 32.0  # periods of positions, in pixels


class QueryLayer(nn.Module):
    """Queries read the tokens, then each other, then go through a perceptron; each a residual of normed queries.

    Args:
        by_overlap: whether they read those more whose masks overlap theirs.
    """

    def __init__(self, by_overlap: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(3))
        self.tokens, self.queries = QueryAttention(), QueryAttention()
        self.overlaps = OverlapBias() if by_overlap else None
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(
        self,
        x_BQC: Tensor,
        position_BQC: Tensor,
        keys_BNC: Tensor,
        memory_BNC: Tensor,
        attended_BQN: Tensor | None,
        seen_BQQ: Tensor | None = None,
        inside_BQP: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            attended_BQN: True for the tokens that a query may read; None: all.
            seen_BQQ: True for the queries that it may; None: all.
            inside_BQP: logits of the queries' masks as they are so far, for `by_overlap`.
        """
        x_BQC = x_BQC + self.tokens(self.norm1(x_BQC) + position_BQC, keys_BNC, memory_BNC, attended_BQN)
        y_BQC = self.norm2(x_BQC)
        bias_BHQQ = None if self.overlaps is None or inside_BQP is None else self.overlaps(inside_BQP)
        x_BQC = x_BQC + self.queries(y_BQC + position_BQC, y_BQC + position_BQC, y_BQC, seen_BQQ, bias_BHQQ)
        return x_BQC + self.fc2(gelu(self.fc1(self.norm3(x_BQC))))


class QueryAttention(nn.Module):
    """Multi-head attention of queries to tokens or to each other (Vaswani 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(
        self,
        query_BQC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        attended_BQN: Tensor | None = None,
        bias_BHQN: Tensor | None = None,
    ) -> Tensor:
        """`attended_BQN`: True for what a query may read; None: all. `bias_BHQN`: added to the logits."""
        *lead, queries, width = query_BQC.shape
        q_BHQE, k_BHNE, v_BHNE = (
            linear(x_BNC).reshape(*(lead or [1]), x_BNC.shape[-2], HEADS, -1).transpose(1, 2)
            for linear, x_BNC in ((self.q, query_BQC), (self.k, key_BNC), (self.v, value_BNC))
        )
        logits_BHQN = (q_BHQE * (WIDTH // HEADS) ** -0.5) @ k_BHNE.transpose(-2, -1)
        if bias_BHQN is not None:
            logits_BHQN = logits_BHQN + bias_BHQN
        if attended_BQN is not None:
            logits_BHQN = logits_BHQN.masked_fill(~attended_BQN[:, None], FAR_BELOW)
        out_BHQE = logits_BHQN.softmax(-1).to(v_BHNE.dtype) @ v_BHNE
        read_BQC: Tensor = self.proj(out_BHQE.transpose(1, 2).reshape(*lead, queries, width))
        return read_BQC


class OverlapBias(nn.Module):
    """How much more a query reads one whose mask overlaps its own: for each head a learned factor times the intersection over
    union of the two. That two queries have found the same thing shows in their masks before all else, and which of them is to
    say so is learnt from what they read of each other, in place of suppression (Hu 2018, "Relation Networks for Object
    Detection", sections 3 and 4.3, with overlap in place of the boxes' geometry)."""

    def __init__(self) -> None:
        super().__init__()
        # one head at first reads the others on its thing, the other one all; a learning rate moves a factor by tenths
        self.factor_H = nn.Parameter(torch.tensor([0.5] + [0.0] * (HEADS - 1)))

    def forward(self, inside_BQP: Tensor) -> Tensor:
        """Logits of masks, (B, Q, P) -> (B, H, Q, Q)."""
        p_BQP = inside_BQP.sigmoid()
        both_BQQ = p_BQP @ p_BQP.transpose(1, 2)
        area_BQ1 = p_BQP.sum(-1, keepdim=True)
        overlap_BQQ = both_BQQ / (area_BQ1 + area_BQ1.transpose(1, 2) - both_BQQ + 1)
        bias_BHQQ: Tensor = STRENGTH * self.factor_H[:, None, None] * overlap_BQQ[:, None]
        return bias_BHQQ


class InsideMask(nn.Module):
    """What lies inside a query's mask as it is so far is added to the query (Zhang 2021, "K-Net", section 3.2, group features):
    one that has read tokens of 16 pixels alone can't tell its thing from the one beside it."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, WIDTH)

    def forward(self, x_BQC: Tensor, masks_BQP: Tensor, counted_BGP: Tensor) -> Tensor:
        """
        Args:
            masks_BQP: logits at each place.
            counted_BGP: features there, and a one for each, so that a product counts the places: it sums in FP32 where the rest
                is in FP16.
        """
        sum_BQG = masks_BQP.sigmoid() @ counted_BGP.transpose(1, 2)
        sum_BQF, places_BQ1 = sum_BQG.split((counted_BGP.shape[1] - 1, 1), dim=-1)
        mean_BQF = sum_BQF / (places_BQ1 + 1)
        read_BQC: Tensor = self.proj(mean_BQF.squeeze(0) if torch.compiler.is_exporting() else mean_BQF)
        return x_BQC + read_BQC


class Residual(nn.Module):
    """A 3x3 convolution that adds to what it reads (He 2016, "Deep Residual Learning"); at first nothing (Goyal 2017,
    "Accurate, Large Minibatch SGD", section 5.1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x_BFHW: Tensor) -> Tensor:
        return torch.relu(x_BFHW + self.norm(self.conv(x_BFHW)))


def perceptron(outputs: int) -> nn.Sequential:
    """Of two layers, from a query."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))


def sine_positions(
    grid: tuple[int, int], extent: tuple[int, int], width: int, device: torch.device | None = None
) -> Tensor:
    """Where each place of a grid is, (N, C): sines and cosines of y and x in pixels, so that two places are as far apart in a
    window that a network learns from as in the frame (Vaswani 2017, section 3.5, of two coordinates).

    Args:
        extent: height and width of what the grid covers, in pixels.
        width: C, a multiple of four.
    """
    period_F = torch.logspace(log10(LONGEST), log10(SHORTEST), width // 4, device=device)
    waves = []
    for size, pixels in zip(grid, extent, strict=True):
        middle_S = (torch.arange(size, device=device) + 0.5) * (pixels / size)
        angle_SF = 2 * pi * middle_S[:, None] / period_F
        waves.append(torch.cat((angle_SF.sin(), angle_SF.cos()), dim=-1))
    rows_GhC, columns_GwC = waves
    both = (rows_GhC[:, None].expand(-1, grid[1], -1), columns_GwC[None].expand(grid[0], -1, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)

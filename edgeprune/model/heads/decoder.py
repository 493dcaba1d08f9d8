"""The layers of the instance head's decoder (Cheng 2022, "Masked-attention Mask Transformer", section 3.2.1), and positions.

Shapes: B batch, N tokens of the grid, Q queries, C channels of a query, H heads, E channels of one, F frequencies or channels
of a place, G of them and one more, P places.
"""

from math import log10, pi

import torch
from torch import Tensor, nn

from edgeprune.model.blocks import FAR_BELOW, gelu

WIDTH, HEADS = 128, 2  # of the queries; a head has 64, which every engine fuses
LONGEST, SHORTEST = 1024.0, 32.0  # periods of positions, in pixels


class QueryLayer(nn.Module):
    """Queries read the tokens, then each other, then go through a perceptron; each a residual of normed queries."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(3))
        self.tokens, self.queries = QueryAttention(), QueryAttention()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(
        self,
        x_BQC: Tensor,
        position_BQC: Tensor,
        keys_BNC: Tensor,
        memory_BNC: Tensor,
        attended_BQN: Tensor | None,
        seen_BQQ: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            attended_BQN: True for the tokens that a query may read; None: all.
            seen_BQQ: True for the queries that it may; None: all.
        """
        x_BQC = x_BQC + self.tokens(self.norm1(x_BQC) + position_BQC, keys_BNC, memory_BNC, attended_BQN)
        y_BQC = self.norm2(x_BQC)
        x_BQC = x_BQC + self.queries(y_BQC + position_BQC, y_BQC + position_BQC, y_BQC, seen_BQQ)
        return x_BQC + self.fc2(gelu(self.fc1(self.norm3(x_BQC))))


class QueryAttention(nn.Module):
    """Multi-head attention of queries to tokens or to each other (Vaswani 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(
        self, query_BQC: Tensor, key_BNC: Tensor, value_BNC: Tensor, attended_BQN: Tensor | None = None
    ) -> Tensor:
        """`attended_BQN`: True for what a query may read; None: all."""
        *lead, queries, width = query_BQC.shape
        q_BHQE, k_BHNE, v_BHNE = (
            linear(x_BNC).reshape(*(lead or [1]), x_BNC.shape[-2], HEADS, -1).transpose(1, 2)
            for linear, x_BNC in ((self.q, query_BQC), (self.k, key_BNC), (self.v, value_BNC))
        )
        logits_BHQN = (q_BHQE * (WIDTH // HEADS) ** -0.5) @ k_BHNE.transpose(-2, -1)
        if attended_BQN is not None:
            logits_BHQN = logits_BHQN.masked_fill(~attended_BQN[:, None], FAR_BELOW)
        out_BHQE = logits_BHQN.softmax(-1).to(v_BHNE.dtype) @ v_BHNE
        read_BQC: Tensor = self.proj(out_BHQE.transpose(1, 2).reshape(*lead, queries, width))
        return read_BQC


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


class MaskExtent(nn.Module):
    """How far a query's mask reaches is added to the query: where its middle lies from the query's place, and the side of what
    is as spread as it. Attention tells of a small thing what is there, and nothing of how far a large one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, WIDTH)
        for parameter in self.proj.parameters():
            nn.init.zeros_(parameter)  # a head that has learnt without it goes on from there

    def forward(self, masks_BQP: Tensor, middles_P2: Tensor, anchor_BQ4: Tensor) -> Tensor:
        """
        Args:
            masks_BQP: logits at each place.
            middles_P2: x and y of each place, as shares of the input.
            anchor_BQ4: the box that each query begins with; what is read is in its sides.
        """
        # in float: a difference of squares has no digits in bf16
        with torch.autocast(masks_BQP.device.type, enabled=False):
            p_BQP = masks_BQP.float().sigmoid().square()  # what is unsure everywhere would outweigh a thing
            mass_BQ1 = p_BQP.sum(-1, keepdim=True) + 1
            mean_BQ2 = p_BQP @ middles_P2 / mass_BQ1
            side_BQ2 = anchor_BQ4[..., 2:]
            # of a rectangle the variance is a twelfth of its squared side; places are too coarse to tell half of a first side
            spread_BQ2 = 12 * (p_BQP @ middles_P2.square() / mass_BQ1 - mean_BQ2.square())
            log_BQ2 = 0.5 * (spread_BQ2 / side_BQ2.square()).clamp_min(0.25).log()
            said_BQ4 = torch.cat(((mean_BQ2 - anchor_BQ4[..., :2]) / side_BQ2, log_BQ2), dim=-1)
        read_BQC: Tensor = self.proj(said_BQ4)
        return read_BQC.squeeze(0) if torch.compiler.is_exporting() else read_BQC


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

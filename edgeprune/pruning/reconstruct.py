"""Sparse to dense: features at every position of the grid, from those of the tokens that are still there.

Shapes: B batch, N positions of the grid, K tokens that remain, D width, O offsets between two positions.
"""

from abc import ABC, abstractmethod
from math import e, log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.model.blocks import gelu

HIDDEN = 32  # of the MLP phi


class Reconstruction(nn.Module, ABC):
    """What a position p makes of the token at p_i hangs on p - p_i alone: a table (N, N), rows p, columns p_i.

    A graph holds it as one constant and gathers the columns of the tokens that remain. The exporter would trace the
    parameters that it is made of and leave it to each engine to fold them; so it is made on the way into evaluation mode,
    which every export passes through, and read in graphs alone: elsewhere it might be older than the weights.
    """

    table_NN: Tensor

    def __init__(self, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.register_buffer("table_NN", torch.empty(0), persistent=False)

    def train(self, mode: bool = True) -> "Reconstruction":
        super().train(mode)
        with torch.no_grad():
            self.table_NN = self.table_NN.new_empty(0) if mode else self.table(self.grid)
        return self

    def _columns(self, cells_K: Tensor) -> Tensor:
        """The table's columns (N, K) of the tokens that remain."""
        table_NN = self.table_NN if torch.compiler.is_exporting() else self.table(self.grid)
        return table_NN.index_select(1, cells_K)

    @abstractmethod
    def table(self, grid: tuple[int, int]) -> Tensor:
        """(N, N) for a grid (Gh, Gw)."""

    @abstractmethod
    def masked(self, x_BND: Tensor, keep_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features (B, N, D) from the tokens that `keep_BN` has ones for, at least one in each image."""

    @abstractmethod
    def gathered(self, x_KD: Tensor, cells_K: Tensor) -> Tensor:
        """Features of one frame, (N, D), from the tokens that remain and the cells that they stand in."""


class Learned(Reconstruction):
    """DynaPrune's: f(p) = sum_i w(p, p_i) h_i, w = softmax over i of (-||p - p_i|| / tau + phi(p - p_i)).

    Distances are in patches. tau is the softplus of a learned value and begins at one patch; phi is an MLP of
    (dy, dx, distance).
    """

    def __init__(self, grid: tuple[int, int]):
        super().__init__(grid)
        self.tau = nn.Parameter(torch.tensor(log(e - 1)))  # before softplus
        self.fc1 = nn.Linear(3, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, 1)

    def table(self, grid: tuple[int, int]) -> Tensor:
        """The softmax's argument, computed once for each offset and laid out for each pair."""
        device = self.tau.device
        y_O, x_O = (
            part.flatten()
            for part in torch.meshgrid(
                *(torch.arange(1 - size, size, device=device, dtype=self.tau.dtype) for size in grid), indexing="ij"
            )
        )
        offset_O3 = torch.stack((y_O, x_O, torch.hypot(y_O, x_O)), dim=-1)
        # in float: a bf16 table would differ between training and graph
        with torch.autocast(device.type, enabled=False):
            phi_O = self.fc2(gelu(self.fc1(offset_O3)))[:, 0]
            weight_O = phi_O - offset_O3[:, 2] / F.softplus(self.tau)
        y_NN, x_NN = pairs(grid, device)
        index_NN = (y_NN + grid[0] - 1) * (2 * grid[1] - 1) + x_NN + grid[1] - 1
        return weight_O.index_select(0, index_NN.flatten()).view(index_NN.shape)

    def masked(self, x_BND: Tensor, keep_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        """The softmax runs over the tokens that remain; their ones multiply the weights and their sum.

        The value is the softmax's, and the gradient at a token's one is w(p, p_i) (h_i - f(p)): what it adds where others
        are rebuilt. For a token that left no such term passes; its weight beside the others is unknown, and as the
        nearest it would often be the largest by far.
        """
        gone_B1N = (keep_BN.detach() < 0.5)[:, None]
        weight_BNN = self.table(grid).masked_fill(gone_B1N, float("-inf")).softmax(dim=-1)
        keep_BN1 = keep_BN[..., None]
        return (weight_BNN @ (keep_BN1 * x_BND)) / (weight_BNN @ keep_BN1)

    def gathered(self, x_KD: Tensor, cells_K: Tensor) -> Tensor:
        """Gather -> Softmax -> MatMul."""
        return self._columns(cells_K).softmax(dim=-1) @ x_KD


class Nearest(Reconstruction):
    """f(p) is the nearest token that remains, of two as near the one that comes first in the grid: the ablation."""

    def table(self, grid: tuple[int, int]) -> Tensor:
        """N times the squared distance, and the token's index to tell equal ones apart; whole numbers, which float holds
        exactly up to 64 patches away in a grid of 64x64."""
        y_NN, x_NN = pairs(grid, self.table_NN.device)
        tokens = y_NN.shape[0]
        return ((y_NN.square() + x_NN.square()) * tokens + torch.arange(tokens, device=y_NN.device)).float()

    def masked(self, x_BND: Tensor, keep_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        gone_B1N = (keep_BN.detach() < 0.5)[:, None]
        nearest_BN = self.table(grid).masked_fill(gone_B1N, float("inf")).argmin(dim=-1)
        return x_BND.gather(1, nearest_BN[..., None].expand_as(x_BND))

    def gathered(self, x_KD: Tensor, cells_K: Tensor) -> Tensor:
        """Gather -> ArgMin -> Gather."""
        return x_KD.index_select(0, self._columns(cells_K).argmin(dim=-1))


def pairs(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """p - p_i of every pair of positions in patches: dy (N, N), dx (N, N), rows p, columns p_i."""
    index_N = torch.arange(grid[0] * grid[1], device=device)
    y_N, x_N = index_N // grid[1], index_N % grid[1]
    return y_N[:, None] - y_N, x_N[:, None] - x_N

"""Uniform selection at the same counts: every second, third, fourth token, whatever the frame shows. The control beside
`random`: it too is blind, but leaves no hole in the frame.

Shapes: B batch, N tokens of the full grid, D width.
"""

from torch import Tensor

from edgeprune.model.policy import Select, Shape, View
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.svit import SViTOptions
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.stagger import even_scores


class Uniform(Random):
    """SViT's schedule and preservation; the best K of one constant table are spread evenly over the grid for every K, and
    the same at every gate: the deeper blocks see a coarser grid. Training sees the selection that inference makes."""

    scores_N: Tensor

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape, options)
        del self.scores_GN
        self.register_buffer("scores_N", even_scores(shape.grid))

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """The constant table (..., N), whatever the tokens hold."""
        return self.scores_N.expand(x_ND.shape[:-1])

    def masked_scores(self, gate: int, x_BND: Tensor, there_BN: Tensor | None, view: View) -> Tensor:
        """The table of the view's own grid."""
        if view.grid == self.shape.grid:
            return self.scores(gate, x_BND)
        return even_scores(view.grid, x_BND.device).expand(x_BND.shape[:-1])

    def select_sampled(self, view: View) -> Select:
        """The best tokens at the target: nothing is drawn."""
        return select_top(self.schedule.on(view.grid).target_candidates)

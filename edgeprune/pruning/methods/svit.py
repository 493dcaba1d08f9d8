"""SViT: gates, preserved and reactivated tokens, dynamic rate (Liu et al., "Revisiting Token Pruning for Object
Detection and Instance Segmentation", WACV 2024).

Shapes: B batch, N tokens of the full grid, K tokens kept, D width, G gates.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import gelu
from edgeprune.model.policy import GONE, Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.methods import dynamicvit
from edgeprune.pruning.sampling import SampledOptions
from edgeprune.pruning.stages import Remaining, never_rising


class SViTOptions(SampledOptions):
    """Settings of the `svit` policy; the defaults are the paper's for a network of 12 blocks."""

    first: int = Field(3, ge=1, description="blocks before the first gate")
    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343],
        min_length=1,
        description="target keep ratios, spread evenly over the gated blocks: three values, one for each third",
    )
    weight: float = Field(4.0, ge=0, description="lambda of the ratio loss")
    full: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each training batch that keeps every token, so that larger buckets come closer to dense",
    )
    dynamic_rate: bool = Field(True, description="the ratio is held over the batch; False: on each image")
    reactivation: bool = Field(
        True,
        description="a token that was let go may come back; False: it stays away, and one gate decides for all blocks of a "
        "value of `keep`, as in the paper's ablation: three gates in place of nine",
    )
    preservation: bool = Field(
        True,
        description="a token that was let go keeps its features; False: its cell has one learned token for all, and it can't "
        "come back",
    )
    gate: Literal["svit", "dynamicvit"] = Field(
        "svit",
        description="the paper's MLP of two layers, or DynamicViT's of four, which sees the mean of all tokens too",
    )

    def whole_images(self, batch: int) -> int:
        """How many images of a batch keep every token, never all: the first ones, for its order is random."""
        return min(round(self.full * batch), batch - 1)


class Gate(nn.Module):
    """LayerNorm -> Linear(D, D/4) -> GELU -> Linear(D/4, 2): the paper's 2-layer MLP. Output 0 is "keep".

    The paper's LogSoftmax is left to where probabilities are sampled: log p(keep) - log p(drop), all that a selection
    needs, is the difference of the two logits.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, width // 4)
        self.fc2 = nn.Linear(width // 4, 2)

    def forward(self, x_ND: Tensor) -> Tensor:
        """log p(keep) - log p(drop), (..., N)."""
        logits_N2 = self.fc2(gelu(self.fc1(self.norm(x_ND))))
        return logits_N2[..., 0] - logits_N2[..., 1]


GATES: dict[str, Callable[[int], nn.Module]] = {"svit": Gate, "dynamicvit": dynamicvit.Gate}


class SViT(TokenPolicy):
    """A gate before each block from `first` on. What a gate lets go keeps its features (preservation) and may be taken
    again by any later gate (reactivation). Options take either away, for ablations.

    Where tokens don't come back, nine gates would let go nine times of what is held at three ratios. The paper's ablation
    merges them to three, and so does this: each decides before the first block of its third, and its mask holds for the
    others, where it passes no gradient to the gate (the released code detaches it there).
    """

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape)
        if options.first >= shape.depth:
            raise InputError(f"policy: first={options.first} leaves no block to gate, the model has {shape.depth}")
        self.options = options
        self.comes_back = options.reactivation and options.preservation
        self.gated, self.ratios = placed(options, shape.depth, merged=not self.comes_back)
        self.gates = nn.ModuleList(GATES[options.gate](shape.width) for _ in self.gated)
        self.empty_1D = None if options.preservation else nn.Parameter(0.02 * torch.randn(1, shape.width))
        if not self.comes_back and options.keep != sorted(options.keep, reverse=True):
            raise InputError(f"policy: keep={options.keep} rises, but a token that left does not come back")

    @property
    def target_keep(self) -> tuple[float, ...]:
        return self.ratios

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Any counts; without reactivation those that never rise."""
        return tuple(counts) if self.comes_back else never_rising(counts)

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """log p(keep) - log p(drop), (..., N)."""
        return self.gates[gate](x_ND)

    def _scores(self, gate: int, x_BND: Tensor, view: View | None) -> Tensor:
        """What `masked` selects by. Gates look at tokens alone; `uniform` looks at the grid of a crop."""
        return self.scores(gate, x_BND)

    def _scores_of_remaining(self, gate: int, x_BND: Tensor, there_BN: Tensor) -> Tensor:
        """The same where tokens that left stay away: a gate that looks at all tokens sees those that are there."""
        return self.gates[gate](x_BND, there_BN) if self.options.gate == "dynamicvit" else self.scores(gate, x_BND)

    def _sample(self, gate: int, scores_BN: Tensor, progress: float = 1.0) -> Tensor:
        """The gate's decision in training."""
        return self.options.sample(scores_BN, progress)

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """x <- M * Block(x, keys masked by M) + (1 - M) * x. The key mask is boolean: gates learn through the mix.

        Without `select`, gates are sampled in training and keep the best tokens at the target ratios in evaluation.
        Without reactivation masks multiply, and what a selection chooses of are the tokens that are still there.
        """
        sampled = select is None and self.training
        if select is None:
            sample = partial(self._sample, progress=1.0 if view is None else view.progress)
            select = sample if self.training else self.select_top(self.target_counts(x_BND.shape[1]))
        full = self.options.whole_images(x_BND.shape[0]) if sampled else 0
        keeps: list[Tensor] = []
        for index, block in enumerate(blocks):
            if index < self.gated[0]:
                x_BND = block(x_BND)
                continue
            if index not in self.gated:  # the gate before an earlier block decided for this one too
                keep_BN = keeps[-1].detach()
            else:
                gate = len(keeps)
                if keeps and not self.comes_back:
                    scores_BN = self._scores_of_remaining(gate, x_BND, keeps[-1])
                    offered_BN = scores_BN if sampled else scores_BN.masked_fill(keeps[-1] < 0.5, GONE)
                    keep_BN = keeps[-1] * select(gate, offered_BN)
                else:
                    keep_BN = select(gate, self._scores(gate, x_BND, view))
                keep_BN = keep_first(keep_BN, full)
                keeps.append(keep_BN)
            keys_BN = keep_BN.detach() > 0.5
            # a row without any key would be a softmax over nothing; its result is discarded by the mix anyway
            keys_BN = keys_BN | ~keys_BN.any(dim=-1, keepdim=True)
            keep_BN1 = keep_BN[..., None]
            x_BND = keep_BN1 * block(x_BND, keys_BN) + (1 - keep_BN1) * x_BND
        if self.empty_1D is not None:
            x_BND = keeps[-1][..., None] * x_BND + (1 - keeps[-1][..., None]) * self.empty_1D
        return Masked(x_BND, keeps, self.loss([keep_BN[full:] for keep_BN in keeps]))

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """See `ratio_loss`."""
        return ratio_loss(keeps, self.ratios, self.options)

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather -> block -> back into the full grid, per gate; counts of the full grid skip all three."""
        self.kept_GK.clear()
        if not self.comes_back:
            return self._gathered_for_good(blocks, x_ND, counts, scores_S)
        for gate, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            if count == x_ND.shape[0]:
                x_ND = block(x_ND)
                continue
            kept_K = (self.scores(gate, x_ND) if gate else scores_S).topk(count, sorted=False).indices
            self.kept_GK.append(kept_K)
            x_ND = put_back(x_ND, block, kept_K)
        return Gathered(x_ND)

    def _gathered_for_good(
        self, blocks: Sequence[nn.Module], x_KD: Tensor, counts: Sequence[int], scores_S: Tensor
    ) -> Gathered:
        """The same of tokens that don't come back: they stay out, and the grid is put together once, at the end."""
        remaining = Remaining(x_KD)
        count_of = dict(zip(self.gated, counts, strict=True))
        for index, block in enumerate(blocks, start=self.trunk_depth):
            count = count_of.get(index, x_KD.shape[0])
            if count < x_KD.shape[0]:
                scores_K = scores_S if index == self.gated[0] else self.scores(self.gated.index(index), x_KD)
                x_KD = x_KD.index_select(0, remaining.keep(x_KD, scores_K, count))
                self.kept_GK.append(remaining.cells_K)
            x_KD = block(x_KD)
        return Gathered(remaining.preserved(x_KD) if self.empty_1D is None else remaining.filled(x_KD, self.empty_1D))


def placed(options: SViTOptions, depth: int, merged: bool) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The blocks that gates precede, and the ratio that each is held at.

    Args:
        merged: one gate for each value of `keep`, before the first of its blocks; else one before every block.
    """
    blocks = range(options.first, depth)
    values = [index * len(options.keep) // len(blocks) for index in range(len(blocks))]
    at = [index for index, value in enumerate(values) if not merged or index == 0 or value != values[index - 1]]
    return tuple(blocks[index] for index in at), tuple(options.keep[values[index]] for index in at)


def spread(keep: Sequence[float], gates: int) -> tuple[float, ...]:
    """A schedule spread evenly over the gates: .7 x3, .49 x3, .343 x3 for nine gates."""
    return tuple(keep[index * len(keep) // gates] for index in range(gates))


def ratio_loss(keeps: Sequence[Tensor], ratios: Sequence[float], options: SViTOptions) -> Tensor:
    """lambda * mean over gates of (mean keep ratio - target)^2; the mean runs over the batch, not per image, and that is
    what makes the rate dynamic.

    Args:
        keeps: of each gate, its mask (B, N); a mean of 1 is all that it was offered.
    """
    gaps = []
    for keep_BN, target in zip(keeps, ratios, strict=True):
        keep_BN = keep_BN.float()  # bf16 tells apart 256 ratios below one
        ratio = keep_BN.mean() if options.dynamic_rate else keep_BN.mean(dim=-1)
        gaps.append((ratio - target).square().mean())
    return options.weight * torch.stack(gaps).mean()


def keep_first(keep_BN: Tensor, full: int) -> Tensor:
    """Everything stays in the first `full` images of a batch."""
    return torch.cat((torch.ones_like(keep_BN[:full]), keep_BN[full:])) if full else keep_BN


def put_back(x_ND: Tensor, block: nn.Module, kept_K: Tensor) -> Tensor:
    """The block on the kept rows, the others preserved.

    A Gather by an inverse map instead of a scatter of rows: only K indices are scattered, rows are copied whole.
    """
    tokens, kept = x_ND.shape[0], kept_K.shape[0]
    y_KD = block(x_ND.index_select(0, kept_K))
    own_N = torch.arange(tokens, device=kept_K.device)
    new_K = torch.arange(tokens, tokens + kept, device=kept_K.device)
    rows_N = own_N.scatter(0, kept_K, new_K)
    return torch.cat((x_ND, y_KD)).index_select(0, rows_N)

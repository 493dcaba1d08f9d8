"""SViT: gates, preserved and reactivated tokens, dynamic rate (Liu et al., "Revisiting Token Pruning for Object
Detection and Instance Segmentation", WACV 2024).

Shapes: B batch, N tokens of the full grid, K tokens kept, D width, G gates.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import gelu
from edgeprune.model.global_batch import batch_mean, squared_gap
from edgeprune.model.inside import Inside
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.masking import attended, mix, offered, with_few_tokens, with_whole_images
from edgeprune.pruning.methods import dynamicvit
from edgeprune.pruning.sampling import FEW, Shares, WholeImagesOptions
from edgeprune.pruning.schedules import FallingSchedule, blocks_from, spread
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.stages import gather_stages
from edgeprune.pruning.stagger import turns
from edgeprune.pruning.token_index import run_on


class SViTOptions(WholeImagesOptions):
    """Settings of the `svit` policy; the defaults are the paper's for a network of 12 blocks."""

    first: int = Field(3, ge=1, description="blocks before the first gate")
    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343],
        min_length=1,
        description="target keep ratios, spread evenly over the gated blocks: three values, one for each third",
    )
    weight: float = Field(4.0, ge=0, description="lambda of the ratio loss")
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
    stagger: float = Field(
        0.0,
        ge=0,
        le=100,
        description="added to a gate's log-odds: a constant pattern of that range, even over the grid, that moves on from gate "
        "to gate, so that tokens which gates hold for the same take turns; 0: the paper's gates",
    )
    least: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="a quarter of each training batch has fewer tokens than the target, down to this share of them, so that "
        "a build adds buckets that a budget may need, below those that frames ask for; null: none",
    )

    @property
    def few(self) -> float:
        """A quarter where `least` says how few tokens."""
        return FEW if self.least else 0.0

    def select_few(self, schedule: Schedule) -> Select:
        """The best tokens at counts between `least` and the target, drawn anew, evenly by their logarithm."""
        scale = (self.least or 1.0) ** float(torch.rand(()))
        return select_top(schedule.candidates(schedule.counts_at(scale)))

    @property
    def comes_back(self) -> bool:
        """Whether a token that was let go may be taken again."""
        return self.reactivation and self.preservation


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

    def forward(self, x_ND: Tensor, there_N: Tensor | None = None) -> Tensor:
        """log p(keep) - log p(drop), (..., N). It looks at each token alone, whichever others are there."""
        logits_N2 = self.fc2(gelu(self.fc1(self.norm(x_ND))))
        return logits_N2[..., 0] - logits_N2[..., 1]


GATES: dict[str, Callable[[int], nn.Module]] = {"svit": Gate, "dynamicvit": dynamicvit.Gate}


class Gates(nn.ModuleList):
    """SViT's gates, alone or among the decisions of other methods.

    Args:
        ratios: the keep ratio that each gate is held at.
        grid: the full one.

    Raises:
        InputError: tokens are to take turns that don't come back.
    """

    turns_GN: Tensor

    def __init__(self, width: int, options: SViTOptions, ratios: Sequence[float], grid: tuple[int, int]):
        super().__init__(GATES[options.gate](width) for _ in ratios)
        self.options, self.ratios, self.grid = options, tuple(ratios), grid
        if options.stagger and not options.comes_back:
            raise InputError(
                "policy: `stagger` is for tokens that come back; take it out, or the option that lets them go"
            )
        if self.staggered:
            self.register_buffer("turns_GN", self._turns(grid), persistent=False)

    @property
    def staggered(self) -> bool:
        """Whether tokens take turns."""
        return bool(self.options.stagger and self.ratios)

    def _turns(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        return self.options.stagger * (turns(grid, self.ratios, device) - 0.5)

    def restrict(self, grid: tuple[int, int]) -> None:
        """From here on the full grid is that one."""
        self.grid = grid
        if self.staggered:
            self.turns_GN = self._turns(grid)

    def with_turn(self, gate: int, scores_N: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Scores (..., N) of a gate, and the turn of each token.

        Args:
            grid: that the N tokens are of; None: the full one.
        """
        if not self.staggered:
            return scores_N
        if grid is None or grid == self.grid:
            return scores_N + self.turns_GN[gate]
        return scores_N + self._turns(grid, scores_N.device)[gate]

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """lambda * mean over gates of (mean keep ratio - target)^2; the mean runs over the batch of all processes, not per
        image, and that is what makes the rate dynamic.

        Args:
            keeps: of each gate, its mask (B, N); a mean of 1 is all that it was offered.
        """
        gaps = []
        for keep_BN, target in zip(keeps, self.ratios, strict=True):
            keep_BN = keep_BN.float()  # bf16 tells apart 256 ratios below one
            if self.options.dynamic_rate:
                gaps.append(squared_gap(keep_BN, target))
            else:
                gaps.append(batch_mean((keep_BN.mean(dim=-1) - target).square()))
        return self.options.weight * torch.stack(gaps).mean()


class SViT(TokenPolicy):
    """A gate before each block from `first` on. What a gate lets go keeps its features (preservation) and may be taken
    again by any later gate (reactivation). Options take either away, for ablations.

    Where tokens don't come back, nine gates would let go nine times of what is held at three ratios. The paper's ablation
    merges them to three, and so does this: each decides before the first block of its third, and its mask holds for the
    others, where it passes no gradient to the gate (the released code detaches it there).
    """

    def __init__(self, shape: Shape, options: SViTOptions):
        blocks = blocks_from(shape, options.first)
        if options.comes_back:
            schedule = Schedule(shape.depth, shape.grid, blocks, spread(options.keep, len(blocks)))
        else:
            numbers = spread(range(len(options.keep)), len(blocks))
            first_of_value = [numbers.index(number) for number in dict.fromkeys(numbers)]
            gated = tuple(blocks[index] for index in first_of_value)
            ratios = tuple(options.keep[numbers[index]] for index in first_of_value)
            schedule = FallingSchedule(shape.depth, shape.grid, gated, ratios)
        super().__init__(shape, replace(schedule, least=options.least))
        self.options = options
        self.gates = Gates(shape.width, options, schedule.target_shares, shape.grid)
        self.empty_1D = None if options.preservation else nn.Parameter(0.02 * torch.randn(1, shape.width))

    @property
    def returning(self) -> Sequence[int]:
        return range(len(self.gated)) if self.options.comes_back else ()

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """log p(keep) - log p(drop), (..., N), and what `stagger` adds."""
        return self.gates.with_turn(gate, self.gates[gate](x_ND))

    def restrict(self, inside: Inside) -> None:
        """Turns are those of the region's own grid."""
        super().restrict(inside)
        self.gates.restrict(inside.grid)

    def masked_scores(self, gate: int, x_BND: Tensor, there_BN: Tensor | None, view: View) -> Tensor:
        """What `masked` selects by. `there_BN`: ones for the tokens that remain, where those that left stay away."""
        return self.gates.with_turn(gate, self.gates[gate](x_BND, there_BN), view.grid)

    def select_sampled(self, view: View) -> Select:
        """How gates decide in training."""
        return lambda gate, scores_BN: self.options.sample(scores_BN, view.progress)

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """x <- M * Block(x, keys masked by M) + (1 - M) * x. The key mask is boolean: gates learn through the mix.

        Without `select`, gates are sampled in training and keep the best tokens at the target ratios in evaluation.
        Without reactivation masks multiply, and what a selection chooses of are the tokens that are still there.
        """
        sampled = select is None and self.training
        shares = self.options.shares(x_BND.shape[0]) if sampled else Shares()
        schedule = self.schedule.on(view.grid)
        if sampled:
            select = with_few_tokens(self.select_sampled(view), shares.few, self.options.select_few(schedule))
            select = with_whole_images(select, shares.whole)
        select = select or select_top(schedule.target_candidates)
        keeps: list[Tensor] = []
        for index, block in enumerate(blocks):
            for gate in self.schedule.decisions_at(index):
                there_BN = keeps[-1] if keeps and not self.options.comes_back else None
                scores_BN = self.masked_scores(gate, x_BND, there_BN, view)
                if there_BN is None:
                    keeps.append(select(gate, scores_BN))
                else:  # sampled also of tokens that left: a gate that would keep them says so to the gates before it
                    keeps.append(there_BN * select(gate, scores_BN if sampled else offered(scores_BN, there_BN >= 0.5)))
            if not keeps:
                x_BND = block(x_BND)
                continue
            # where no gate precedes the block, the one before an earlier block decided for it too
            keep_BN = keeps[-1] if index in self.gated else keeps[-1].detach()
            x_BND = mix(keep_BN, block(x_BND, attended(keep_BN.detach() > 0.5)), x_BND)
        if self.empty_1D is not None:
            x_BND = mix(keeps[-1], x_BND, self.empty_1D)
        sampled_ones = shares.sampled(x_BND.shape[0])
        return Masked(x_BND, keeps, shares.weight * self.loss([keep_BN[sampled_ones] for keep_BN in keeps]))

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """The gates' ratio loss."""
        return self.gates.loss(keeps)

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather -> block -> back into the full grid, per gate; counts of the full grid skip all three. Tokens that
        don't come back stay out, and the grid is put together once, at the end."""
        if not self.options.comes_back:
            return gather_stages(self, blocks, x_ND, counts, scores_S, self.empty_1D)
        selected: list[Tensor] = []
        for gate, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            if count == x_ND.shape[0]:
                x_ND = block(x_ND)
                continue
            kept_K = (self.scores(gate, x_ND) if gate else scores_S).topk(count, sorted=False).indices
            selected.append(kept_K)
            x_ND = run_on(kept_K, block, x_ND)
        return Gathered(x_ND, selected)

"""Early exit: what methods share that let a token go when an auxiliary head is sure of its class (DToP: Tang et al.,
"Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", ICCV 2023).

Shapes: B batch, N tokens of the full grid, K rows of a graph's tokens (of logits: classes), J of them that stay, D width.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from edgeprune.model.policy import GONE, Shape, View
from edgeprune.model.stem import PATCH
from edgeprune.pruning.stages import on_grid

SUREST = -128.0  # scores end here
CONTEXT = 256.0  # lifts every context token over all others


class ExitHead(nn.Module):
    """LayerNorm -> Linear(D, classes), token by token."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.classify = nn.Linear(shape.width, shape.classes)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Logits (..., N, K)."""
        return self.classify(self.norm(x_ND)).float()


def stay_scores(logits_NK: Tensor, context: int, there_N: Tensor | None = None) -> Tensor:
    """Who stays (..., N), larger = stay: 1 - confidence, and a bonus for context tokens.

    1 - confidence as its log-odds, log((1 - p) / p) of the largest probability p: the same order, which floats still tell
    apart where p is 1 to seven digits and an engine would break the tie otherwise. Context are the `context` most confident
    tokens of each class among those predicted as that class; equals of the last of them count too.

    Args:
        there_N: (..., N) False for tokens that have left (`GONE`, and no context); None: all are there.
    """
    classes = logits_NK.shape[-1]
    top_N = logits_NK.argmax(-1)
    is_top_NK = top_N[..., None] == torch.arange(classes, device=logits_NK.device)
    best_N = logits_NK.amax(-1)
    others_NK = logits_NK.masked_fill(is_top_NK, GONE)
    second_N1 = others_NK.amax(-1, keepdim=True)
    rest_N = second_N1[..., 0] + (others_NK - second_N1).exp().sum(-1).log()
    scores_N = (rest_N - best_N).clamp_min(SUREST)
    if there_N is not None:
        is_top_NK = is_top_NK & there_N[..., None]
    if context:
        sure_NK = torch.where(is_top_NK, -scores_N[..., None], GONE)
        # the last place of each class, by taking the best away: neither a sort nor a TopK, which a trunk must not hold
        left_NK = sure_NK
        for _ in range(context - 1):
            left_NK = torch.where(left_NK >= left_NK.amax(-2, keepdim=True), GONE, left_NK)
        in_context_N = (is_top_NK & (sure_NK >= left_NK.amax(-2, keepdim=True))).any(-1)
        scores_N = torch.where(in_context_N, scores_N + CONTEXT, scores_N)
    return scores_N if there_N is None else scores_N.masked_fill(~there_N, GONE)


def exit_score(confidence: float) -> float:
    """The score that a token must exceed to be unsure (or context) at this confidence."""
    return log((1 - confidence) / confidence)


# ------------------------------------------------------------------------------------------------ training form


def class_shares(labels_BHW: Tensor, classes: int, ignore_index: int) -> Tensor:
    """The share of each token's pixels that has each class (B, N, K); ignored pixels are in none."""
    batch, height, width = labels_BHW.shape
    labels_BHW = torch.where(labels_BHW == ignore_index, classes, labels_BHW.long())
    pixels_BNP = (
        labels_BHW.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH)
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
    )
    counts_BNK = torch.zeros(*pixels_BNP.shape[:2], classes + 1, device=labels_BHW.device)
    counts_BNK.scatter_add_(2, pixels_BNP, torch.ones_like(pixels_BNP, dtype=counts_BNK.dtype))
    return counts_BNK[..., :classes] / PATCH**2


def exit_loss(logits_BNK: Tensor, there_BN: Tensor, view: View | None) -> Tensor:
    """Cross-entropy of an auxiliary head over the labelled pixels of the tokens that are there.

    The target of a token is the share of each class, not its majority: a token of two classes is then never sure, and
    stays for the head that tells its pixels apart. 0 without labels, still tied to the head.
    """
    nothing = logits_BNK.sum() * 0
    if view is None or view.labels_BHW is None:
        return nothing
    share_BNK = class_shares(view.labels_BHW, logits_BNK.shape[-1], view.ignore_index) * there_BN[..., None]
    total = share_BNK.sum()
    return nothing - (share_BNK * logits_BNK.log_softmax(-1)).sum() / total.clamp_min(1e-6)


@dataclass
class Canvas:
    """Logits that tokens of a batch left with. `open_BN`: True where the head's count.

    Of an open token it holds the newest logits, for its neighbours are interpolated toward them.
    """

    frozen_BNK: Tensor
    open_BN: Tensor

    def exit(self, logits_BNK: Tensor, there_BN: Tensor, keep_BN: Tensor, unsure_BN: Tensor) -> None:
        """Closes every token that goes, and every token that is sure, whether the bucket had room for it or not. Where an
        image lets no token go there is no exit: nothing closes, and the full bucket is the dense model."""
        exits_B1 = (there_BN & ~keep_BN).any(-1, keepdim=True)
        self.frozen_BNK = torch.where((self.open_BN & exits_B1)[..., None], logits_BNK, self.frozen_BNK)
        self.open_BN = self.open_BN & (~exits_B1 | (keep_BN & unsure_BN))


# ------------------------------------------------------------------------------------------------ inference form


class Leaving:
    """One frame's tokens as they leave: rows of a graph's tokens, cells of the grid, and what each cell has last.

    TopK names cells, so that the order in which an engine has its rows does not matter.
    """

    def __init__(self, x_KD: Tensor, cells_K: Tensor | None, tokens: int):
        """`cells_K`: the cell that each row stands at; None: all in order."""
        rows = x_KD.shape[0]
        self.tokens, self.cells_K = tokens, cells_K
        self.now_K = cells_K  # the same after those that left
        self.row_N = self._rows(cells_K, torch.full((tokens,), rows, device=x_KD.device), 0)
        self.last_N = self.row_N
        self.parts: list[Tensor] = []  # rows before each exit, one after the other: what `last_N` points into
        self.logits: list[Tensor] = []  # likewise, `frozen_N`
        self.frozen_N = torch.zeros_like(self.row_N)
        self.open_N = self.row_N < rows

    @staticmethod
    def _rows(cells_K: Tensor | None, rows_N: Tensor, first: int) -> Tensor:
        """`rows_N` with the rows from `first` on at these cells."""
        if cells_K is None:
            return torch.arange(rows_N.shape[0], device=rows_N.device)
        return rows_N.scatter(0, cells_K, torch.arange(first, first + cells_K.shape[0], device=rows_N.device))

    def _on_grid(self, scores_K: Tensor) -> Tensor:
        """Scores of rows at their cells; `GONE` at those that have none."""
        return scores_K if self.now_K is None else on_grid(scores_K, self.now_K, self.tokens)

    def best(self, scores_K: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The cells that TopK takes for a gate, and their rows; nobody leaves."""
        kept_J = self._on_grid(scores_K).topk(count, sorted=False).indices
        return kept_J, kept_J if self.now_K is None else self.row_N.index_select(0, kept_J)

    def exit(
        self, x_KD: Tensor, logits_KK: Tensor, scores_K: Tensor, count: int, unsure: float
    ) -> tuple[Tensor, Tensor]:
        """The `count` best rows stay; of the others features and logits are kept as they are.

        Args:
            unsure: the score over which a token is unsure or context.

        Returns:
            tokens (J, D), the cells that TopK took (J,).
        """
        scores_N = self._on_grid(scores_K)
        kept_J = scores_N.topk(count, sorted=False).indices
        x_JD = x_KD.index_select(0, self.row_N.index_select(0, kept_J))
        before = sum(part.shape[0] for part in self.logits)
        self.frozen_N = torch.where(self.open_N, self.row_N + before, self.frozen_N)
        self.logits.append(logits_KK)
        self.parts.append(x_KD)
        self.now_K = kept_J
        self.row_N = self._rows(kept_J, torch.full_like(self.row_N, count), 0)
        self.last_N = self._rows(kept_J, self.last_N, sum(part.shape[0] for part in self.parts))
        self.open_N = self.open_N & (self.row_N < count) & (scores_N > unsure)
        return x_JD, kept_J

    def finish(self, x_KD: Tensor, owner_N: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features, frozen logits and open flags of the full grid, the last two None where no token left.

        Args:
            owner_N: the first row, before anyone left, that stands for each cell; None: its own.
        """
        if not self.parts:
            return (x_KD if owner_N is None else x_KD.index_select(0, owner_N)), None, None
        at = [self.last_N, self.frozen_N]
        open_N = self.open_N.to(x_KD.dtype)
        if owner_N is not None and self.cells_K is not None:
            cell_N = self.cells_K.index_select(0, owner_N)
            at = [index_N.index_select(0, cell_N) for index_N in at]
            open_N = open_N.index_select(0, cell_N)
        x_ND = torch.cat((*self.parts, x_KD)).index_select(0, at[0])
        return x_ND, torch.cat(self.logits).index_select(0, at[1]), open_N

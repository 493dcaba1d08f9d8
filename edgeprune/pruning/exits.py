"""Early exit: what methods share that let a token go when an auxiliary head is sure of its class (DToP: Tang et al.,
"Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", ICCV 2023).

Shapes: B batch, N tokens of the full grid, K rows of a graph's tokens (of logits: classes), J of them that stay, D width.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from edgeprune.model.global_batch import batch_sum
from edgeprune.model.policy import EXCLUDED_SCORE, Shape, View
from edgeprune.pruning.masking import offered
from edgeprune.pruning.token_index import TokenIndex

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
        there_N: (..., N) False for tokens that have left (`EXCLUDED_SCORE`, and no context); None: all are there.
    """
    classes = logits_NK.shape[-1]
    top_N = logits_NK.argmax(-1)
    is_top_NK = top_N[..., None] == torch.arange(classes, device=logits_NK.device)
    best_N = logits_NK.amax(-1)
    others_NK = logits_NK.masked_fill(is_top_NK, EXCLUDED_SCORE)
    second_N1 = others_NK.amax(-1, keepdim=True)
    rest_N = second_N1[..., 0] + (others_NK - second_N1).exp().sum(-1).log()
    scores_N = (rest_N - best_N).clamp_min(SUREST)
    if there_N is not None:
        is_top_NK = is_top_NK & there_N[..., None]
    if context:
        sure_NK = torch.where(is_top_NK, -scores_N[..., None], EXCLUDED_SCORE)
        # the last place of each class, by taking the best away: neither a sort nor a TopK, which a trunk must not hold
        left_NK = sure_NK
        for _ in range(context - 1):
            left_NK = torch.where(left_NK >= left_NK.amax(-2, keepdim=True), EXCLUDED_SCORE, left_NK)
        in_context_N = (is_top_NK & (sure_NK >= left_NK.amax(-2, keepdim=True))).any(-1)
        scores_N = torch.where(in_context_N, scores_N + CONTEXT, scores_N)
    return scores_N if there_N is None else offered(scores_N, there_N)


def exit_score(confidence: float) -> float:
    """The score that a token must exceed to be unsure (or context) at this confidence."""
    return log((1 - confidence) / confidence)


# ------------------------------------------------------------------------------------------------ training form


def class_shares(labels_BHW: Tensor, classes: int, ignore_index: int, patch: int) -> Tensor:
    """The share of each token's pixels that has each class (B, N, K); ignored pixels are in none."""
    batch, height, width = labels_BHW.shape
    labels_BHW = torch.where(labels_BHW == ignore_index, classes, labels_BHW.long())
    pixels_BNP = (
        labels_BHW.reshape(batch, height // patch, patch, width // patch, patch)
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
    )
    counts_BNK = torch.zeros(*pixels_BNP.shape[:2], classes + 1, device=labels_BHW.device)
    counts_BNK.scatter_add_(2, pixels_BNP, torch.ones_like(pixels_BNP, dtype=counts_BNK.dtype))
    return counts_BNK[..., :classes] / patch**2


def exit_loss(logits_BNK: Tensor, there_BN: Tensor, view: View | None) -> Tensor:
    """Cross-entropy of an auxiliary head, mean over the labelled pixels of the tokens that are there in the whole batch.

    The target of a token is the share of each class, not its majority: a token of two classes is then never sure, and
    stays for the head that tells its pixels apart. 0 without labels, still tied to the head.
    """
    nothing = logits_BNK.sum() * 0
    if view is None or view.labels_BHW is None:
        return nothing
    share_BNK = class_shares(view.labels_BHW, logits_BNK.shape[-1], view.ignore_index, view.patch) * there_BN[..., None]
    total = batch_sum(share_BNK.sum())
    return nothing - batch_sum((share_BNK * logits_BNK.log_softmax(-1)).sum()) / total.clamp_min(1e-6)


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


class EarlyExitState:
    """One frame's tokens as they exit, and what their cells show: the head's answer, or the logits that they left with.

    TopK names cells, so that the order in which an engine has its rows does not matter.
    """

    def __init__(self, x_KD: Tensor, tokens: int, cells_K: Tensor | None, owner_N: Tensor | None):
        """
        Args:
            x_KD: rows of tokens before anyone left.
            cells_K: the cell that each stands at; None: all in order.
            owner_N: the row that stands for each cell; None: its own.
        """
        self.index = TokenIndex(x_KD, tokens, cells_K)
        self.first_K, self.owner_N = cells_K, owner_N
        self.logits: list[Tensor] = []  # of the rows before each exit, one after the other: what `frozen_N` points into
        self.frozen_N = torch.zeros_like(self.index.row_N)
        self.open_N = self.index.row_N < x_KD.shape[0]

    def best(self, scores_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The cells that TopK takes for a gate of the scores that lie at them, and their rows; nobody leaves."""
        kept_J = scores_N.topk(count, sorted=False).indices
        return kept_J, kept_J if self.index.in_order else self.index.rows_of(kept_J)

    def exit(self, x_KD: Tensor, logits_KK: Tensor, scores_K: Tensor, count: int, unsure: float) -> Tensor:
        """The `count` best rows stay; of the others features and logits are kept as they are.

        Args:
            unsure: the score over which a token is unsure or context.

        Returns:
            tokens (J, D).
        """
        scores_N = self.index.on_grid(scores_K)
        kept_J = scores_N.topk(count, sorted=False).indices
        x_JD = x_KD.index_select(0, self.index.rows_of(kept_J))
        before = sum(part.shape[0] for part in self.logits)
        self.frozen_N = torch.where(self.open_N, self.index.row_N + before, self.frozen_N)
        self.logits.append(logits_KK)
        self.index.leave(x_KD, kept_J)
        self.open_N = self.open_N & (self.index.row_N < count) & (scores_N > unsure)
        return x_JD

    def finish(self, x_KD: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features, frozen logits and open flags of the full grid, the last two None where no token left."""
        if not self.logits:
            return (x_KD if self.owner_N is None else x_KD.index_select(0, self.owner_N)), None, None
        last_N, frozen_N, open_N = self.index.last_N, self.frozen_N, self.open_N.to(x_KD.dtype)
        if self.owner_N is not None and self.first_K is not None:
            cell_N = self.first_K.index_select(0, self.owner_N)
            last_N, frozen_N, open_N = (each_N.index_select(0, cell_N) for each_N in (last_N, frozen_N, open_N))
        x_ND = torch.cat((*self.index.before, x_KD)).index_select(0, last_N)
        return x_ND, torch.cat(self.logits).index_select(0, frozen_N), open_N

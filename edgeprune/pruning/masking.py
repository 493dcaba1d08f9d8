"""What training forms share: every token is computed, and masks of zeros and ones say which of them are there.

Shapes: B batch, N tokens of the full grid, S candidates of a decision, D width.
"""

import torch
from torch import Tensor

from edgeprune.model.policy import EXCLUDED_SCORE, Select


def offered(scores_BS: Tensor, there_BS: Tensor) -> Tensor:
    """The scores that a selection sees: `EXCLUDED_SCORE` for what is not there any more.

    Args:
        there_BS: boolean.
    """
    return scores_BS.masked_fill(~there_BS, EXCLUDED_SCORE)


def attended(there_BN: Tensor) -> Tensor:
    """The tokens that may be attended to, boolean: those that are there. In an image where none is a softmax would run over
    nothing, so there it is all of them; what comes of them is discarded."""
    return there_BN | ~there_BN.any(dim=-1, keepdim=True)


def mix(keep_BN: Tensor, new_BND: Tensor, old_BND: Tensor) -> Tensor:
    """M * new + (1 - M) * old, through which decisions get their gradient.

    Args:
        keep_BN: M, ones for the tokens that a decision keeps.
    """
    keep_BN1 = keep_BN[..., None]
    return keep_BN1 * new_BND + (1 - keep_BN1) * old_BND


def with_few_tokens(select: Select, few: int, top: Select) -> Select:
    """A selection that chooses as `top` does in the last `few` images of a batch."""

    def chosen(decision: int, scores_BS: Tensor) -> Tensor:
        mask_BS = select(decision, scores_BS)
        few_BS = top(decision, scores_BS[-few:].detach()).to(mask_BS.dtype)
        return torch.cat((mask_BS[:-few], few_BS))

    return chosen if few else select


def with_whole_images(select: Select, whole: int) -> Select:
    """A selection that chooses everything in the first `whole` images of a batch, as good as any others: its order is
    random."""

    def chosen(decision: int, scores_BS: Tensor) -> Tensor:
        mask_BS = select(decision, scores_BS)
        return torch.cat((torch.ones_like(mask_BS[:whole]), mask_BS[whole:]))

    return chosen if whole else select

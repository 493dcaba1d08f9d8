"""Memory between frames: the tokens of a frame that changed are computed, as queries against keys and values that stand; what
was computed of the others stands (Dutson 2023, "Eventful Transformers", section 4.1: a reference, and a buffer behind it).
There is one choice, at the embedding, in place of three gates in each block, and what is kept is replaced, never added to.

It is a form of the dense network: a policy's gates are passed by. How many tokens a frame computes is a bucket's, so every
shape is a constant.

Tokens are in two groups, the colours of a checkerboard, and a block keeps the keys of one of them, by turns, so that attention
takes half the time (a spatial reduction, as Wang 2021, "Pyramid Vision Transformer", section 3.3, has one). Tokens that are
computed attend to it and to each other; one that stands counts twice in the softmax, for itself and for one of the other group
(Bolya 2023, "Token Merging", equation 1: proportional attention). So a frame computes as many tokens of each group.

Shapes: H W pixels of the frame, N tokens of the grid, K of them computed, G groups of M, S attended to, D width, A heads, E
their size, P = 3 A parts of what a block's first linear gives: queries, keys and values of each head.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import NamedTuple, cast

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import TURN, group_tokens, groups_of, phases
from edgeprune.model.blocks import HEAD_SIZE, Block
from edgeprune.model.heads.head import Raw
from edgeprune.model.segmenter import Segmenter, as_image


class State(NamedTuple):
    """What a frame leaves for the next.

    Attributes:
        seen_ND: the embedding that each token was last computed from.
        final_ND: what the last block gave it then.
        keys, values: of each block, of the group that it keeps, (1, A, M, E), as its products take them.
    """

    seen_ND: Tensor
    final_ND: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    def tensors(self) -> list[Tensor]:
        """In the order of `state_names`."""
        return [self.seen_ND, self.final_ND, *self.keys, *self.values]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "State":
        """Of what `tensors` gave."""
        seen_ND, final_ND, *caches = tensors
        blocks = len(caches) // 2
        return cls(seen_ND, final_ND, caches[:blocks], caches[blocks:])


def embedding_scale(model: Segmenter, frames: Sequence[Tensor]) -> float:
    """The distance of a token's embeddings in frames of different scenes, the median over tokens and frames.

    Args:
        frames: (H, W, 3) uint8, two or more.
    """
    embedded = [model.embed(as_image(frame_HW3))[0][0] for frame_HW3 in frames]
    distances = [(after_ND - before_ND).norm(dim=-1) for before_ND, after_ND in pairwise(embedded)]
    return max(float(torch.cat(distances).median()), 1e-6)


def state_names(blocks: int) -> list[str]:
    """Of the tensors of a state."""
    return ["seen", "final", *(f"{kind}{block}" for kind in ("keys", "values") for block in range(blocks))]


class _Kept(NamedTuple):
    """Of the group that a block keeps: the places (which frame, which head, which of its tokens) that are replaced, and what is
    added to logits, see `Remembering._weigh`."""

    places: tuple[Tensor, ...]
    weight_S: Tensor | None


class Remembering:
    """A segmenter that computes what changed; for one frame at a time.

    Args:
        model: whose weights are used.
        scale: what a distance is divided by: that of a token's embeddings in frames of different scenes.
        refresh: frames in which every token has its turn once, changed or not.
        groups: of the tokens; None: see `groups_of`.

    Raises:
        InputError: tokens outside of the grid, or a region: nobody has trained such a model for it.
    """

    def __init__(self, model: Segmenter, scale: float, refresh: int, groups: int | None = None):
        if model.spec.extra_tokens or model.inside is not None:
            what = "a region" if model.inside is not None else f"{model.spec.extra_tokens} extra tokens"
            raise InputError(f"--memory is for models of the whole grid and nothing else, this one has {what}")
        self.model, self.scale, self.refresh = model, scale, refresh
        self.tokens = model.grid[0] * model.grid[1]
        tokens_GM = group_tokens(model.grid, groups or groups_of(model.grid))
        self._tokens_GM = torch.from_numpy(tokens_GM)
        self._phase_N = torch.from_numpy(phases(tokens_GM, refresh)).float()

    def trunk(self, frame_HW3: Tensor, seen_ND: Tensor, due_2: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Frame (uint8) -> embedded tokens (N, D), the stem's skips, and scores (N): how far the embedding of each token is
        from the one that it was last computed from, TURN and more for those whose turn it is.

        Args:
            due_2: the phase that has waited longest, and how many phases are due, as float.
        """
        x_BND, skips, _ = self.model.embed(as_image(frame_HW3))
        x_ND = x_BND[0]
        distance_N = (x_ND - seen_ND).square().sum(-1).sqrt() / self.scale
        first, count = due_2[0], due_2[1]
        waits_N = self._phase_N - first
        waits_N = torch.where(waits_N < 0, waits_N + self.refresh, waits_N)
        score_N = torch.where(waits_N < count, TURN + self.refresh - waits_N, distance_N)
        return x_ND, skips, score_N

    def whole(self, x_ND: Tensor) -> State:
        """The state after a frame of which all tokens are computed, whatever was before."""
        kept, of_ND = [], x_ND
        for number in range(len(self.model.blocks)):
            of_ND, *caches = self._block(number, of_ND, None)
            kept.append(caches)
        return State(x_ND, of_ND, *([each[place] for each in kept] for place in (0, 1)))

    def some(self, x_ND: Tensor, score_N: Tensor, state: State, count: int) -> tuple[State, Tensor]:
        """The state after a frame of which the K tokens of the highest scores are computed, as many of each group, and their
        numbers in it (G, K / G)."""
        chosen_GK, index_K = self._choose(score_N, count)
        heads = cast(Block, self.model.blocks[0]).attn.heads
        # which frame, which head, which token of a group: (1, A, K / G) together
        heads_A = torch.arange(heads, device=index_K.device)
        which = (torch.zeros_like(heads_A[:1])[:, None, None], heads_A[None, :, None])
        kept = [
            _Kept((*which, chosen_K[None, None]), self._weigh(chosen_K, count - len(chosen_K)))
            for chosen_K in chosen_GK
        ]
        x_KD = of_KD = x_ND.index_select(0, index_K)
        left = []
        for number, (keys_1AME, values_1AME) in enumerate(zip(state.keys, state.values, strict=True)):
            of_KD, *caches = self._block(number, of_KD, (keys_1AME, values_1AME, kept[number % len(kept)]))
            left.append(caches)
        seen_ND = state.seen_ND.index_put((index_K,), x_KD)
        final_ND = state.final_ND.index_put((index_K,), of_KD)
        return State(seen_ND, final_ND, *([each[place] for each in left] for place in (0, 1))), chosen_GK

    def _choose(self, score_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """As many tokens of each group, of the highest scores: their numbers in it (G, K / G) and in the grid (K), by group."""
        groups, size = self._tokens_GM.shape
        if groups == 1:
            index_K = score_N.topk(count, sorted=False).indices
            return index_K[None], index_K
        score_GM = score_N.index_select(0, self._tokens_GM.flatten()).reshape(groups, size)
        best_GK = score_GM.topk(count // groups, sorted=False).indices
        place_K = (best_GK + size * torch.arange(groups)[:, None]).flatten()
        return best_GK, self._tokens_GM.flatten().index_select(0, place_K)

    def _weigh(self, chosen_K: Tensor, others: int) -> Tensor | None:
        """What is added to the logits of what a block attends to (S): the log of the number of tokens that each stands for."""
        groups, size = self._tokens_GM.shape
        if groups == 1:
            return None
        kept_M = torch.full((size,), log(groups)).index_put((chosen_K,), torch.zeros(len(chosen_K)))
        return torch.cat([kept_M, torch.zeros(others)])

    def _block(
        self, number: int, x_KD: Tensor, kept: tuple[Tensor, Tensor, _Kept] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A block on K tokens: what it gives them, and the keys and values that it keeps (1, A, M, E).

        Args:
            number: of the block.
            x_KD: group by group, or all in the order of the grid.
            kept: keys and values of the frame before, and which of them are replaced; None: there is nothing but these tokens,
                which are all.
        """
        block = cast(Block, self.model.blocks[number])
        attention = block.attn
        # one Transpose of all parts: with few tokens it is the number of operators that counts
        parts_1KPE = attention.qkv(block.norm1(x_KD)).reshape(1, -1, 3 * attention.heads, HEAD_SIZE)
        q_1AKE, k_1AKE, v_1AKE = parts_1KPE.transpose(1, 2).split(attention.heads, dim=1)
        keys_1AME, values_1AME, group = kept or (None, None, None)
        seen_k_1ASE, keys_1AME = self._keep(number, k_1AKE, keys_1AME, group)
        seen_v_1ASE, values_1AME = self._keep(number, v_1AKE, values_1AME, group)
        logits_1AKS = (q_1AKE * HEAD_SIZE**-0.5) @ seen_k_1ASE.transpose(-2, -1)
        if group is not None and group.weight_S is not None:
            logits_1AKS = logits_1AKS + group.weight_S
        mixed_1AKE = logits_1AKS.softmax(-1).to(seen_v_1ASE.dtype) @ seen_v_1ASE
        context_KD = attention.proj(mixed_1AKE.transpose(-3, -2).reshape(x_KD.shape))
        return block.after_attention(x_KD, context_KD), keys_1AME, values_1AME

    def _keep(
        self, number: int, new_1AKE: Tensor, kept_1AME: Tensor | None, group: _Kept | None
    ) -> tuple[Tensor, Tensor]:
        """Of the keys or values of K tokens, and of those that a block kept: which are attended to (1, A, S, E), and which it
        keeps (1, A, M, E). See `_block`."""
        groups = len(self._tokens_GM)
        own, rows = number % groups, new_1AKE.shape[2] // groups
        if kept_1AME is None or group is None:
            return new_1AKE, new_1AKE if groups == 1 else new_1AKE.index_select(2, self._tokens_GM[own])
        before, after = own * rows, (groups - 1 - own) * rows
        others = list(new_1AKE.split([size for size in (before, rows, after) if size], dim=2))
        keeps_1AME = kept_1AME.index_put(group.places, others.pop(1 if before else 0))
        return torch.cat([keeps_1AME, *others], dim=2) if others else keeps_1AME, keeps_1AME

    def answer(self, state: State, skips: Sequence[Tensor]) -> Raw:
        """What the head computes, of all tokens."""
        return self.model.finish(self.model.norm(state.final_ND)[None], self.model.grid, skips)

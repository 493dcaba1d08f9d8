"""Memory between frames: the tokens of a frame that changed are computed, as queries against the keys and values of all; what
was computed of the others stands (Dutson 2023, "Eventful Transformers", section 4.1: a reference, and a buffer behind it).
There is one choice, at the embedding, in place of three gates in each block, and what is kept is replaced, never added to.

It is a form of the dense network: a policy's gates are passed by. How many tokens a frame computes is a bucket's, so every
shape is a constant.

Shapes: H W pixels of the frame, N tokens of the grid, K of them computed, D width, A heads, E head size, P = 3 A parts of what
a block's first linear gives: queries, keys and values of each head.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import TURN, phases
from edgeprune.model.blocks import HEAD_SIZE, Block
from edgeprune.model.heads.head import Raw
from edgeprune.model.segmenter import Segmenter, as_image


class State(NamedTuple):
    """What a frame leaves for the next.

    Attributes:
        seen_ND: the embedding that each token was last computed from.
        final_ND: what the last block gave it then.
        keys, values: of each block, (1, A, N, E), as its products take them.
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


class Remembering:
    """A segmenter that computes what changed; for one frame at a time.

    Args:
        model: whose weights are used.
        scale: what a distance is divided by: that of a token's embeddings in frames of different scenes.
        refresh: frames in which every token has its turn once, changed or not.

    Raises:
        InputError: tokens outside of the grid, or a region: nobody has trained such a model for it.
    """

    def __init__(self, model: Segmenter, scale: float, refresh: int):
        if model.spec.extra_tokens or model.inside is not None:
            what = "a region" if model.inside is not None else f"{model.spec.extra_tokens} extra tokens"
            raise InputError(f"--memory is for models of the whole grid and nothing else, this one has {what}")
        self.model, self.scale, self.refresh = model, scale, refresh
        self.tokens = model.grid[0] * model.grid[1]
        self._phase_N = torch.from_numpy(phases(self.tokens, refresh)).float()

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
        for block in self.model.blocks:
            of_ND, *caches = self._block(cast(Block, block), of_ND, None)
            kept.append(caches)
        return State(x_ND, of_ND, *([each[place] for each in kept] for place in (0, 1)))

    def some(self, x_ND: Tensor, score_N: Tensor, state: State, count: int) -> tuple[State, Tensor]:
        """The state after a frame of which the K tokens of the highest scores are computed, and which they are (K)."""
        index_K = score_N.topk(count, sorted=False).indices
        heads = cast(Block, self.model.blocks[0]).attn.heads
        # which frame, which head, which token: (1, A, K) together
        heads_A = torch.arange(heads, device=index_K.device)
        places = (torch.zeros_like(heads_A[:1])[:, None, None], heads_A[None, :, None], index_K[None, None])
        x_KD = of_KD = x_ND.index_select(0, index_K)
        kept = []
        for block, keys_1ANE, values_1ANE in zip(self.model.blocks, state.keys, state.values, strict=True):
            of_KD, *caches = self._block(cast(Block, block), of_KD, (keys_1ANE, values_1ANE, places))
            kept.append(caches)
        seen_ND = state.seen_ND.index_put((index_K,), x_KD)
        final_ND = state.final_ND.index_put((index_K,), of_KD)
        return State(seen_ND, final_ND, *([each[place] for each in kept] for place in (0, 1))), index_K

    def _block(
        self, block: Block, x_KD: Tensor, kept: tuple[Tensor, Tensor, tuple[Tensor, ...]] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A block on K tokens that attend to all: what it gives them, and the keys and values of all (1, A, N, E).

        Args:
            kept: keys and values of the frame before, and the places in them that are replaced; None: there is nothing but
                these tokens.
        """
        attention = block.attn
        # one Transpose of all parts: with few tokens it is the number of operators that counts
        parts_1KPE = attention.qkv(block.norm1(x_KD)).reshape(1, -1, 3 * attention.heads, HEAD_SIZE)
        q_1AKE, k_1ANE, v_1ANE = parts_1KPE.transpose(1, 2).split(attention.heads, dim=1)
        if kept is not None:
            keys_1ANE, values_1ANE, places = kept
            k_1ANE, v_1ANE = keys_1ANE.index_put(places, k_1ANE), values_1ANE.index_put(places, v_1ANE)
        logits_1AKN = (q_1AKE * HEAD_SIZE**-0.5) @ k_1ANE.transpose(-2, -1)
        mixed_1AKE = logits_1AKN.softmax(-1).to(v_1ANE.dtype) @ v_1ANE
        context_KD = attention.proj(mixed_1AKE.transpose(-3, -2).reshape(x_KD.shape))
        return block.after_attention(x_KD, context_KD), k_1ANE, v_1ANE

    def answer(self, state: State, skips: Sequence[Tensor]) -> Raw:
        """What the head computes, of all tokens."""
        return self.model.finish(self.model.norm(state.final_ND)[None], self.model.grid, skips)

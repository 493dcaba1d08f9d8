"""A pre-norm transformer block over tokens, the same for a batch in training and for one frame in a graph.

Shapes: B batch, N tokens, D width, H heads, E head size (always 64). Functions take any leading dimensions `...`.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_SIZE = 64
FAR_BELOW = -1e4  # a logit under all others: its exponential is 0, and FP16 holds it


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani 2017); `qkv` and `proj` are named as in timm, so its weights load by key."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD_SIZE
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def _heads(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, each (..., H, N, E); of one frame in a graph (1, H, N, E), the shape that TensorRT's fused attention is
        specified for ("Fused Attention": Q is [B, N_q, S_q, H])."""
        *lead, tokens, width = x_ND.shape
        if torch.compiler.is_exporting():  # one Split in place of three Slices and Squeezes
            lead = lead or [1]
            parts = self.qkv(x_ND).split(width, dim=-1)
            q_HNE, k_HNE, v_HNE = (
                part_ND.reshape(*lead, tokens, self.heads, HEAD_SIZE).transpose(-3, -2) for part_ND in parts
            )
            return q_HNE, k_HNE, v_HNE
        qkv_3HNE = self.qkv(x_ND).reshape(*lead, tokens, 3, self.heads, HEAD_SIZE)
        q_HNE, k_HNE, v_HNE = (part.transpose(-3, -2) for part in qkv_3HNE.unbind(-3))
        return q_HNE, k_HNE, v_HNE

    def _as_given(self, of_HNN: Tensor, x_ND: Tensor) -> Tensor:
        """Without the leading 1 that a graph's heads have and its tokens have not."""
        return of_HNN.squeeze(0) if torch.compiler.is_exporting() and x_ND.ndim == 2 else of_HNN

    def forward(self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None) -> Tensor:
        """
        Args:
            x_ND: (..., N, D).
            keys_N: (..., N) boolean, True for the tokens that may be attended to; None: all of them.
            bias_N: (..., N), added to the logits of each key: the log of how many tokens a merged one stands for.
        """
        return self.proj(self.mix(x_ND, keys_N, bias_N))

    def mix(self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None) -> Tensor:
        """What the heads give each token, side by side (..., N, D), before the projection."""
        *lead, tokens, width = x_ND.shape
        q_HNE, k_HNE, v_HNE = self._heads(x_ND)
        if torch.compiler.is_exporting():
            # the scale goes on Q before the product: one small Mul, and what fused FP16 attention asks for
            logits_HNN = (q_HNE * HEAD_SIZE**-0.5) @ k_HNE.transpose(-2, -1)
            if bias_N is not None:
                logits_HNN = logits_HNN + bias_N[..., None, None, :]
            out_HNE = logits_HNN.softmax(-1).to(v_HNE.dtype) @ v_HNE
        else:
            out_HNE = attend(q_HNE, k_HNE, v_HNE, keys_N, bias_N)
        return out_HNE.transpose(-3, -2).reshape(*lead, tokens, width)

    def weights(self, x_ND: Tensor, keys_N: Tensor | None = None) -> Tensor:
        """The attention weights (..., H, N, N) that `forward` uses, queries first: for methods that score by attention.
        In a graph the engine finds the products that `forward` repeats and computes them once."""
        q_HNE, k_HNE, _ = self._heads(x_ND)
        logits_HNN = (q_HNE * HEAD_SIZE**-0.5) @ k_HNE.transpose(-2, -1)
        if keys_N is not None:
            logits_HNN = logits_HNN.masked_fill(~keys_N[..., None, None, :], FAR_BELOW)
        return self._as_given(logits_HNN.softmax(-1), x_ND)

    def keys(self, x_ND: Tensor) -> Tensor:
        """The mean of the heads' keys (..., N, E): what ToMe compares tokens by."""
        return self._as_given(self._heads(x_ND)[1], x_ND).mean(dim=-3)

    def values(self, x_ND: Tensor) -> Tensor:
        """The heads' values (..., H, N, E)."""
        return self._as_given(self._heads(x_ND)[2], x_ND)


def attend(q_HNE: Tensor, k_HNE: Tensor, v_HNE: Tensor, keys_N: Tensor | None, bias_N: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(E) + bias) v over the keys that `keys_N` (..., N) allows; shapes (..., H, N, E)."""
    if q_HNE.ndim == 3 and q_HNE.device.type != "cpu":
        # fused kernels take four dimensions alone; three would have all logits of the frame written to memory
        return attend(q_HNE[None], k_HNE[None], v_HNE[None], keys_N, bias_N)[0]
    if q_HNE.device.type == "cpu" and q_HNE.dtype == torch.bfloat16:
        # plain products of contiguous operands: in bf16 torch's CPU flash kernel takes twice as long, strided operands
        # half as long again (16 images, 352 tokens, forward and backward: 20 ms against 33 and 32)
        q_HNE, k_HNE, v_HNE = (part_HNE.contiguous() for part_HNE in (q_HNE, k_HNE, v_HNE))
        logits_HNN = (q_HNE * HEAD_SIZE**-0.5) @ k_HNE.transpose(-2, -1)
        if bias_N is not None:
            logits_HNN = logits_HNN + bias_N[..., None, None, :].to(logits_HNN.dtype)
        if keys_N is not None:
            logits_HNN = logits_HNN.masked_fill(~keys_N[..., None, None, :], FAR_BELOW)
        return logits_HNN.softmax(-1) @ v_HNE
    mask = None if keys_N is None else keys_N[..., None, None, :]
    if bias_N is not None:
        bias_N = bias_N.to(q_HNE.dtype)
        mask = bias_N[..., None, None, :] if mask is None else bias_N[..., None, None, :].masked_fill(~mask, FAR_BELOW)
    return F.scaled_dot_product_attention(q_HNE, k_HNE, v_HNE, attn_mask=mask)


def gelu(x: Tensor) -> Tensor:
    """Exact GELU. In a graph it is spelled as ONNX Runtime's fusion looks for it: x / sqrt(2) -> Erf -> + 1 -> * x -> / 2."""
    if torch.compiler.is_exporting():
        return x * (torch.erf(x / 2**0.5) + 1.0) * 0.5
    return F.gelu(x)


class Mlp(nn.Module):
    """Two linears with a GELU between."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x_ND)))


class LayerScale(nn.Module):
    """Learned scale of a residual branch (Touvron 2021); DINOv2's weights have it."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x_ND: Tensor) -> Tensor:
        return x_ND * self.gamma


class Layer(nn.Module, ABC):
    """What a policy may ask of a block, of the tokens (..., N, D) that it is given: `attention` before it runs on them."""

    @abstractmethod
    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output of `forward`, and what attention gave each token (..., N, D), before the sum: the token's context."""

    @abstractmethod
    def attention(self, x_ND: Tensor, keys_N: Tensor | None = None) -> Tensor:
        """The attention weights (..., H, N, N), see `Attention.weights`."""

    @abstractmethod
    def keys(self, x_ND: Tensor) -> Tensor:
        """The mean of the heads' keys (..., N, E)."""

    @abstractmethod
    def values(self, x_ND: Tensor) -> Tensor:
        """The heads' values (..., H, N, E)."""

    def forward(self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None) -> Tensor:
        """`keys_N`: the tokens that may be attended to, `bias_N`: added to their logits, see `Attention`."""
        return self.forward_with_context(x_ND, keys_N, bias_N)[0]


class Block(Layer):
    """x + attention(norm(x)), then x + mlp(norm(x)). `drop_path` skips a branch per sample in training (Huang 2016)."""

    def __init__(self, width: int, layer_scale: float | None = None):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.drop_path = 0.0

    def _branch(self, y_ND: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return y_ND
        keep = 1.0 - self.drop_path
        shape = (y_ND.shape[0],) + (1,) * (y_ND.ndim - 1)
        return y_ND * y_ND.new_empty(shape).bernoulli_(keep).div_(keep)

    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        context_ND = self.attn(self.norm1(x_ND), keys_N, bias_N)
        return self.after_attention(x_ND, context_ND), context_ND

    def after_attention(self, x_ND: Tensor, context_ND: Tensor) -> Tensor:
        """The output for tokens (..., N, D), from what attention gave them."""
        x_ND = x_ND + self._branch(self.ls1(context_ND))
        return x_ND + self._branch(self.ls2(self.mlp(self.norm2(x_ND))))

    def attention(self, x_ND: Tensor, keys_N: Tensor | None = None) -> Tensor:
        return self.attn.weights(self.norm1(x_ND), keys_N)

    def keys(self, x_ND: Tensor) -> Tensor:
        return self.attn.keys(self.norm1(x_ND))

    def values(self, x_ND: Tensor) -> Tensor:
        return self.attn.values(self.norm1(x_ND))

"""A narrower ViT from a wider one of as many blocks: where a small model begins that no pretrained weights are published for.

The residual stream is turned onto its principal components and cut there (SliceGPT: Ashkboos et al., "SliceGPT: Compress Large
Language Models by Deleting Rows and Columns", ICLR 2024). LayerNorm takes a token's mean away, so the stream is centred first
(exact: all that reads it is behind a LayerNorm), and the components are turned into the narrower space's own centred part,
where its LayerNorms take nothing more away. In each block the heads and hidden units of the largest effect stay, and the linear
behind them is fitted by least squares to what the wider block gave (ThiNet: Luo et al., ICCV 2017), on the narrower network's
own tokens, so that a block mends what those before it lost.

Shapes: F frames, N tokens, M = F N rows, D width of the wider network, E of the narrower, H heads, U hidden units.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import HEAD_SIZE, Block, gelu
from edgeprune.model.segmenter import Segmenter

RIDGE = 1e-3  # of the mean square of what is fitted on
PART = 4  # frames that pass a block at once


def narrow(wide: Segmenter, model: Segmenter, images_F3HW: Tensor, anew: Sequence[str] = ()) -> float:
    """Gives `model` the weights that come nearest to those of `wide`; its policy's parts keep their own start.

    Args:
        wide: at the input's size, with as many classes as `model`, or others: then the last layer begins anew.
        images_F3HW: levels 0-255 of training frames, 30 or more.
        anew: parts of names of the head's tensors that keep their own start, whatever their shapes.

    Returns:
        how much of what the head reads the narrower network gives: 1 - its squared error over the variance (R^2).

    Raises:
        InputError: see `check_narrower`.
    """
    check_narrower(wide, model)
    wide.eval()
    model.eval()
    with torch.no_grad():
        turn_ED = principal_turn(wide, images_F3HW, model.pos_embed.shape[-1])
        _copy_stem(wide, model, turn_ED)
        wide_FND, x_FNE = _embed(wide, images_F3HW), _embed(model, images_F3HW)
        for old, new in zip(wide.blocks, model.blocks, strict=True):
            assert isinstance(old, Block) and isinstance(new, Block)
            wide_FND, x_FNE = _narrow_block(old, new, wide_FND, x_FNE, turn_ED)
        return _fit_head(wide, model, wide_FND, x_FNE, anew)


def check_narrower(wide: Segmenter, model: Segmenter) -> None:
    """Refuses a pair of networks of which one can't be narrowed to the other.

    Raises:
        InputError: another task, depth, stem, patch, normalisation or number of convolution channels, or extra tokens.
    """
    for key in ("task", "depth", "stem", "patch", "normalise", "convolutions"):
        found, expected = getattr(wide.spec, key), getattr(model.spec, key)
        if found != expected:
            raise InputError(
                f"a model of {key} {found} can't be narrowed to one of {key} {expected}; choose model.{key}: {found}"
            )
    if wide.spec.extra_tokens or model.spec.extra_tokens:
        raise InputError("a model with extra tokens can't be narrowed; train one with model.extra_tokens: 0")
    if model.spec.layer_scale is not None:
        raise InputError(
            "a model is narrowed to one without a layer scale, for its branches are fitted; choose model.layer_scale: null"
        )


def principal_turn(wide: Segmenter, images_F3HW: Tensor, width: int) -> Tensor:
    """The map (E, D) from the wider stream to the narrower: its E - 1 principal directions, over all tokens and all places that
    a LayerNorm reads, each token at length 1 as the LayerNorm sees it; then turned so that no token has a mean."""
    size = wide.pos_embed.shape[-1]
    second_DD = torch.zeros(size, size, dtype=torch.float64)
    for part_B3HW in images_F3HW.split(PART):
        for x_BND in _stream(wide, part_B3HW):
            x_MD = _centred(x_BND.reshape(-1, size).double())
            x_MD = x_MD / x_MD.norm(dim=1, keepdim=True).clamp_min(1e-12)
            second_DD += x_MD.T @ x_MD
    _, directions_DD = torch.linalg.eigh(second_DD)  # rising
    principal_DE = directions_DD[:, -(width - 1) :]
    turn_ED = _without_mean(width) @ principal_DE.T
    return turn_ED - turn_ED.mean(dim=1, keepdim=True)  # a token's mean is taken away before it is turned


def _stream(wide: Segmenter, images_B3HW: Tensor) -> Iterator[Tensor]:
    """The tokens (B, N, D) at every place where a LayerNorm reads them."""
    x_BND, _, _ = wide.embed(images_B3HW.float())
    yield x_BND
    for block in wide.blocks:
        assert isinstance(block, Block)
        x_BND = x_BND + block.ls1(block.attn(block.norm1(x_BND)))
        yield x_BND
        x_BND = x_BND + block.ls2(block.mlp(block.norm2(x_BND)))
        yield x_BND


def _centred(x_MD: Tensor) -> Tensor:
    return x_MD - x_MD.mean(dim=1, keepdim=True)


def _without_mean(width: int) -> Tensor:
    """(E, E - 1): orthonormal columns, each of which sums to 0."""
    ones_E1 = torch.ones(width, 1, dtype=torch.float64)
    basis_EE, _ = torch.linalg.qr(torch.cat((ones_E1, torch.eye(width, dtype=torch.float64)[:, 1:]), dim=1))
    return basis_EE[:, 1:]


def _copy_stem(wide: Segmenter, model: Segmenter, turn_ED: Tensor) -> None:
    old, new = wide.stem.proj, model.stem.proj
    assert isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d) and old.bias is not None and new.bias is not None
    finer = {key: value for key, value in wide.stem.state_dict().items() if not key.startswith("proj.")}
    model.stem.load_state_dict(finer, strict=False)
    new.weight.copy_((turn_ED @ old.weight.double().flatten(1)).view_as(new.weight))
    new.bias.copy_(turn_ED @ old.bias.double())
    model.pos_embed.copy_(wide.pos_embed.double() @ turn_ED.T)


def _embed(model: Segmenter, images_F3HW: Tensor) -> Tensor:
    return torch.cat([model.embed(part_B3HW.float())[0] for part_B3HW in images_F3HW.split(PART)])


# ------------------------------------------------------------------------------------------------ blocks


def _narrow_block(old: Block, new: Block, wide_FND: Tensor, x_FNE: Tensor, turn_ED: Tensor) -> tuple[Tensor, Tensor]:
    """Fills one block, and returns both networks' tokens behind it."""
    middle_FND = _in_parts(lambda x_BND: x_BND + old.ls1(old.attn(old.norm1(x_BND))), wide_FND)
    _narrow_attention(old, new, wide_FND, turn_ED)
    _fit(new.attn.proj, lambda x_BNE: new.attn.mix(new.norm1(x_BNE)), x_FNE, middle_FND, turn_ED)
    x_FNE = _in_parts(lambda x_BNE: x_BNE + new.attn(new.norm1(x_BNE)), x_FNE)
    after_FND = _in_parts(lambda x_BND: x_BND + old.ls2(old.mlp(old.norm2(x_BND))), middle_FND)
    _narrow_mlp(old, new, middle_FND, turn_ED)
    _fit(new.mlp.fc2, lambda x_BNE: gelu(new.mlp.fc1(new.norm2(x_BNE))), x_FNE, after_FND, turn_ED)
    return after_FND, _in_parts(lambda x_BNE: x_BNE + new.mlp(new.norm2(x_BNE)), x_FNE)


def _in_parts(run: Callable[[Tensor], Tensor], x_FND: Tensor) -> Tensor:
    return torch.cat([run(part_BND) for part_BND in x_FND.split(PART)])


def _read(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear that reads tokens whose LayerNorm has no factors of its own."""
    weight_OD, bias_O = linear.weight.double(), linear.bias.double()
    return weight_OD * norm.weight.double(), bias_O + weight_OD @ norm.bias.double()


def _start_norm(norm: nn.LayerNorm, x_FND: Tensor, turn_ED: Tensor) -> None:
    """One factor for all channels: what makes up for the length that a token has lost. LayerNorm brings each to sqrt(E)."""
    x_MD = _centred(x_FND[:PART].reshape(-1, x_FND.shape[-1]).double())
    width, size = turn_ED.shape
    kept_M = (x_MD @ turn_ED.T).norm(dim=1) / x_MD.norm(dim=1).clamp_min(1e-12)
    norm.weight.fill_(float(kept_M.mean()) * (size / width) ** 0.5)
    norm.bias.zero_()


def _narrow_attention(old: Block, new: Block, wide_FND: Tensor, turn_ED: Tensor) -> None:
    """The heads of the largest variance in the narrower stream, with their queries, keys and values."""
    size, heads = wide_FND.shape[-1], old.attn.heads
    _start_norm(new.norm1, wide_FND, turn_ED)
    out_MHC = old.attn.mix(old.norm1(wide_FND[:PART])).reshape(-1, heads, HEAD_SIZE)
    proj_EHC = (turn_ED.float() @ old.attn.proj.weight).unflatten(1, (heads, HEAD_SIZE))
    effect_H = torch.stack([(out_MHC[:, h] @ proj_EHC[:, h].T).var(dim=0).sum() for h in range(heads)])
    kept_H = effect_H.topk(new.attn.heads).indices.sort().values
    rows = (kept_H[:, None] * HEAD_SIZE + torch.arange(HEAD_SIZE)).flatten()
    weight_OD, bias_O = _read(old.attn.qkv, old.norm1)
    weight_3OD, bias_3O = weight_OD.view(3, size, size)[:, rows], bias_O.view(3, size)[:, rows]
    new.attn.qkv.weight.copy_((weight_3OD @ turn_ED.T).flatten(0, 1))
    new.attn.qkv.bias.copy_(bias_3O.flatten())


def _narrow_mlp(old: Block, new: Block, middle_FND: Tensor, turn_ED: Tensor) -> None:
    """The hidden units of the largest variance in the narrower stream."""
    _start_norm(new.norm2, middle_FND, turn_ED)
    hidden_MU = gelu(old.mlp.fc1(old.norm2(middle_FND[:PART]))).flatten(0, 1)
    effect_U = hidden_MU.var(dim=0) * (turn_ED.float() @ old.mlp.fc2.weight).square().sum(dim=0)
    kept_U = effect_U.topk(new.mlp.fc1.out_features).indices.sort().values
    weight_UD, bias_U = _read(old.mlp.fc1, old.norm2)
    new.mlp.fc1.weight.copy_(weight_UD[kept_U] @ turn_ED.T)
    new.mlp.fc1.bias.copy_(bias_U[kept_U])


def _fit(
    linear: nn.Linear, reads: Callable[[Tensor], Tensor], x_FNE: Tensor, wanted_FND: Tensor, turn_ED: Tensor
) -> None:
    """Fits a linear so that the stream behind it comes nearest to the wider one's, turned."""
    pairs = (
        (reads(x_BNE), wanted_BND.double() @ turn_ED.T - x_BNE.double())
        for x_BNE, wanted_BND in zip(x_FNE.split(PART), wanted_FND.split(PART), strict=True)
    )
    least_squares(linear, pairs)


def least_squares(linear: nn.Linear, pairs: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Ridge regression of the second of each pair (..., O) on the first (..., I), with a bias."""
    inputs = linear.in_features + 1
    gram_II = torch.zeros(inputs, inputs, dtype=torch.float64)
    cross_IO = torch.zeros(inputs, linear.out_features, dtype=torch.float64)
    for read, wanted in pairs:
        read_MI = read.reshape(-1, linear.in_features).double()
        read_MI = torch.cat((read_MI, torch.ones(len(read_MI), 1, dtype=torch.float64)), dim=1)
        gram_II += read_MI.T @ read_MI
        cross_IO += read_MI.T @ wanted.reshape(-1, linear.out_features).double()
    gram_II += RIDGE * gram_II.diagonal().mean() * torch.eye(inputs, dtype=torch.float64)
    fitted_IO = torch.linalg.solve(gram_II, cross_IO)
    linear.weight.copy_(fitted_IO[:-1].T)
    linear.bias.copy_(fitted_IO[-1])


# ------------------------------------------------------------------------------------------------ head


def _fit_head(wide: Segmenter, model: Segmenter, wide_FND: Tensor, x_FNE: Tensor, anew: Sequence[str]) -> float:
    """The linear that reads the tokens is fitted, all else of the head is as wide as it was, but for what begins anew. Returns
    R^2 of what the linear gives."""
    model.norm.weight.fill_(1.0)
    model.norm.bias.zero_()
    old, new = wide.head.reduce, model.head.reduce
    own = model.head.state_dict()
    same = {
        key: value
        for key, value in wide.head.state_dict().items()
        if value.shape == own[key].shape and not any(part in f"head.{key}" for part in anew)
    }
    model.head.load_state_dict(same, strict=False)
    wanted_FNC = _in_parts(lambda x_BND: old(wide.norm(x_BND)), wide_FND)
    parts = zip(x_FNE.split(PART), wanted_FNC.split(PART), strict=True)
    least_squares(new, ((model.norm(x_BNE), wanted_BNC) for x_BNE, wanted_BNC in parts))
    error_FNC = _in_parts(lambda x_BNE: new(model.norm(x_BNE)), x_FNE) - wanted_FNC
    return 1 - float(error_FNC.square().mean() / wanted_FNC.flatten(0, 1).var(dim=0).mean())

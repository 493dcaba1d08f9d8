"""The segmenter: shapes, both of its forms, other input sizes, attention's shortcut on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import HEAD_SIZE, Attention, Block, attend, gelu
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.segmenter import WIDTHS, Segmenter, resize_positions
from edgeprune.model.spec import ModelSpec
from tests import models


@pytest.mark.parametrize("stem", ["conv", "patch", "patch-conv"])
def test_logits_have_half_the_frame_size(stem: str) -> None:
    prediction = models.model(models.card("dense", depth=2, stem=stem))(models.images(3))
    assert prediction.raw.shape == (3, 11, models.HEIGHT // 2, models.WIDTH // 2)
    assert prediction.masked.keep_GBN == [] and prediction.masked.loss == 0


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_size_has_heads_of_64(size: str) -> None:
    spec = ModelSpec(size=size, depth=1, height=32, width=32)  # type: ignore[arg-type]
    model = Segmenter(spec, TokenPolicy(Shape(WIDTHS[size], 1, (2, 2), 11))).eval()
    assert models.block(model, 0).attn.heads * HEAD_SIZE == WIDTHS[size]
    assert model(torch.zeros(1, 3, 32, 32)).raw.shape == (1, 11, 16, 16)


@pytest.mark.parametrize("stem", ["conv", "patch", "patch-conv"])
def test_one_uint8_frame_through_trunk_and_tail_equals_the_training_form(stem: str) -> None:
    model = models.model(models.card("dense", depth=2, stem=stem))
    frame_HW3 = torch.from_numpy(models.frames(1)[0])
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(frame_HW3)
        got = model.tail(x_ND, skips, scores_N, ())
        expected = model(models.images(1)).raw
    assert scores_N is None
    assert len(skips) == (0 if stem == "patch" else 2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_normalisation_is_inside_the_model() -> None:
    """A frame of ImageNet's mean colour is a frame of zeros to the stem."""
    model = models.model(models.card("dense", depth=1))
    seen = []
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.embed(model.mean.expand(1, 3, 64, 96))
    assert seen[0].abs().max() < 1e-6
    model.embed((model.mean + model.std).expand(1, 3, 64, 96))
    torch.testing.assert_close(seen[1], torch.ones(1, 3, 64, 96))


@pytest.mark.parametrize(("height", "width"), [(65, 96), (64, 100)])
def test_sizes_that_are_no_multiples_of_16_are_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match=f"{height}x{width}.*multiples of 16"):
        spec = ModelSpec().model_copy(update={"height": height, "width": width})  # as `build --size` makes one
        Segmenter(spec, TokenPolicy(Shape(192, 12, models.GRID, 11)))


def test_another_input_size_resizes_the_positions() -> None:
    model = models.model(models.card("svit", depth=2))
    with torch.no_grad():
        # positions that grow from left to right still do on a grid of another size
        ramp_W = torch.linspace(-1, 1, models.GRID[1])
        model.pos_embed.copy_(ramp_W.repeat(models.GRID[0])[None, :, None].expand_as(model.pos_embed))
        for parameter in model.stem.parameters():
            parameter.zero_()
        x_BND, _, view = model.embed(torch.zeros(1, 3, 96, 160))
        assert model(torch.zeros(2, 3, 96, 160)).raw.shape == (2, 11, 48, 80)
    assert view.grid == (6, 10)
    row_W = x_BND[0, :10, 0]
    assert (row_W.diff() > 0).all() and row_W[0] < -0.8 and row_W[-1] > 0.8
    torch.testing.assert_close(x_BND[0, :, 0].view(6, 10), row_W.expand(6, 10))


def test_resizing_positions_to_their_own_grid_changes_nothing() -> None:
    pos_1ND = torch.randn(1, 24, 8)
    torch.testing.assert_close(resize_positions(pos_1ND, (4, 6), (4, 6)), pos_1ND)


def test_unknown_stem_is_refused_by_the_configuration() -> None:
    spec = ModelSpec.model_construct(**ModelSpec().model_dump() | {"stem": "convv"})
    with pytest.raises(InputError, match="unknown stem 'convv'.*did you mean 'conv'"):
        Segmenter(spec, TokenPolicy(Shape(192, 12, (24, 32), 11)))


# ------------------------------------------------------------------------------------------------ attention


def test_a_frame_is_an_image_of_a_batch_of_one() -> None:
    """What a GPU's fused kernels are given of a frame, which take four dimensions alone."""
    q_HNE, k_HNE, v_HNE = torch.randn(3, 2, 9, HEAD_SIZE, generator=torch.Generator().manual_seed(0))
    keys_N, bias_N = torch.arange(9) % 3 > 0, torch.linspace(0, 1, 9)
    for given in ((None, None), (keys_N, None), (None, bias_N), (keys_N, bias_N)):
        alone_HNE = attend(q_HNE, k_HNE, v_HNE, *given)
        torch.testing.assert_close(attend(q_HNE[None], k_HNE[None], v_HNE[None], *given)[0], alone_HNE)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_on_the_cpu_equals_sdpa(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q_BHNE, k_BHNE, v_BHNE = torch.randn(3, 2, 3, 24, HEAD_SIZE, generator=generator)
    keys_BN = torch.rand(2, 24, generator=generator) > 0.5 if masked else None
    mask = None if keys_BN is None else keys_BN[:, None, None, :]
    expected = F.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE, attn_mask=mask)
    got = attend(q_BHNE.bfloat16(), k_BHNE.bfloat16(), v_BHNE.bfloat16(), keys_BN)
    assert got.dtype == torch.bfloat16
    assert (got.float() - expected).abs().max() < 0.04  # 8 bits of mantissa; outputs are of size 1
    assert (got.float() - expected).abs().mean() < 0.004


def test_attention_in_bf16_gives_masked_keys_no_weight_at_all() -> None:
    q_BHNE = torch.randn(1, 3, 8, HEAD_SIZE).bfloat16()
    v_BHNE = torch.zeros(1, 3, 8, HEAD_SIZE).bfloat16()
    v_BHNE[:, :, 5] = 100
    keys_BN = torch.ones(1, 8, dtype=torch.bool)
    keys_BN[0, 5] = False
    assert attend(q_BHNE, q_BHNE, v_BHNE, keys_BN).abs().max() == 0
    assert attend(q_BHNE, q_BHNE, v_BHNE, None).abs().max() > 0


def test_masked_keys_equal_attention_over_the_kept_tokens_alone() -> None:
    torch.manual_seed(0)
    attention = Attention(192)
    x_1ND = torch.randn(1, 10, 192)
    keys_N = torch.arange(10) % 3 > 0
    full_ND = attention(x_1ND, keys_N[None])[0]
    alone_KD = attention(x_1ND[0, keys_N])
    torch.testing.assert_close(full_ND[keys_N], alone_KD, rtol=1e-4, atol=1e-5)


def test_attention_by_its_weights_and_values() -> None:
    torch.manual_seed(0)
    attention = Attention(192)
    x_BND = torch.randn(2, 10, 192)
    keys_BN = torch.rand(2, 10) > 0.4
    keys_BN[:, 0] = True
    weights_BHNN = attention.weights(x_BND, keys_BN)
    torch.testing.assert_close(weights_BHNN.sum(-1), torch.ones(2, 3, 10))
    out_BND = (weights_BHNN @ attention.values(x_BND)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.proj(out_BND), attention(x_BND, keys_BN), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_key_of_twice_the_weight_is_a_key_that_is_there_twice(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q_HNE, k_HNE, v_HNE = torch.randn(3, 3, 6, HEAD_SIZE).to(dtype)
    bias_N = torch.tensor([0, 0, 2.0, 0, 0, 0]).log1p()  # log 3 at token 2
    with_bias_HNE = attend(q_HNE, k_HNE, v_HNE, None, bias_N)
    rows = [0, 1, 2, 2, 2, 3, 4, 5]
    repeated_HNE = attend(q_HNE, k_HNE[:, rows], v_HNE[:, rows], None)
    tolerance = 1e-5 if dtype == torch.float32 else 0.04
    torch.testing.assert_close(with_bias_HNE, repeated_HNE, rtol=tolerance, atol=tolerance)


def test_gelu_is_the_exact_one() -> None:
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(gelu(x), x * 0.5 * (1 + torch.erf(x / 2**0.5)))


def test_drop_path_skips_branches_per_sample_in_training_alone() -> None:
    torch.manual_seed(0)
    block = Block(192)
    x_BND = torch.randn(64, 4, 192)
    whole_BND = block(x_BND)
    block.drop_path = 0.5
    dropped_BND = block(x_BND)
    untouched_B = (dropped_BND == x_BND).all(-1).all(-1)
    assert 4 <= untouched_B.sum() <= 32  # both branches dropped: one in four
    # the mean over draws is the whole: what is kept counts double
    many = torch.stack([block(x_BND[:4]) for _ in range(400)]).mean(0)
    assert (many - whole_BND[:4]).abs().mean() < 0.1
    block.eval()
    torch.testing.assert_close(block(x_BND), whole_BND)

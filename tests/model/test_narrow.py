"""A narrower ViT from a wider one.

Shapes: D width of the wider model, E of the narrower.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.data.selection import CalibrationFrames
from edgeprune.model.card import Card
from edgeprune.model.checkpoint import save
from edgeprune.model.narrow import least_squares, narrow, principal_turn
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.quantize.calibrate import ptq_ranges
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.loading import make_model
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.start import card_of, check_start, start_model
from tests import models


def wide_card(policy: str = "dense", **changes: Any) -> Card:
    card = models.card(policy, depth=2)
    return card.model_copy(
        update={"model": ModelSpec.model_validate(card.model.model_dump() | {"size": "small"} | changes)}
    )


def widened(model: Segmenter) -> Segmenter:
    """A ViT-Small that computes what a ViT-Tiny does: its stream lies in a random subspace of the wider one's, and half of the
    heads and hidden units give nothing."""
    wide = make_model(wide_card())
    turn_DE, _ = torch.linalg.qr(torch.randn(384, 193))
    turn_DE = torch.linalg.qr(torch.cat((torch.ones(384, 1), turn_DE), dim=1))[0][:, 1:193]  # no token has a mean
    turn_DE = turn_DE - turn_DE.mean(dim=1, keepdim=True)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.zero_()
        wide.stem.proj.weight.copy_((turn_DE @ model.stem.proj.weight.flatten(1)).view_as(wide.stem.proj.weight))
        assert wide.stem.proj.bias is not None and model.stem.proj.bias is not None
        wide.stem.proj.bias.copy_(turn_DE @ model.stem.proj.bias)
        wide.pos_embed.copy_(model.pos_embed @ turn_DE.T)
        for index in range(len(model.blocks)):
            old, new = models.block(model, index), models.block(wide, index)
            _widen_reader(old.attn.qkv, old.norm1, new.attn.qkv, new.norm1, turn_DE, parts=3)
            _widen_writer(old.attn.proj, new.attn.proj, turn_DE)
            _widen_reader(old.mlp.fc1, old.norm2, new.mlp.fc1, new.norm2, turn_DE)
            _widen_writer(old.mlp.fc2, new.mlp.fc2, turn_DE)
        _widen_reader(model.head.reduce, model.norm, wide.head.reduce, wide.norm, turn_DE)
        rest = {key: value for key, value in model.head.state_dict().items() if not key.startswith("reduce")}
        wide.head.load_state_dict(rest, strict=False)
    return wide.eval()


def _widen_reader(
    old: nn.Linear, norm: nn.LayerNorm, new: nn.Linear, wide: nn.LayerNorm, turn_DE: Tensor, parts: int = 1
) -> None:
    """LayerNorm brings a token to the length sqrt(384) there, to sqrt(192) here."""
    wide.weight.fill_(0.5**0.5)
    weight_POE = (old.weight * norm.weight).unflatten(0, (parts, -1))
    bias_PO = (old.bias + old.weight @ norm.bias).unflatten(0, (parts, -1))
    rows = weight_POE.shape[1]
    new.weight.unflatten(0, (parts, -1))[:, :rows].copy_(weight_POE @ turn_DE.T)
    new.bias.unflatten(0, (parts, -1))[:, :rows].copy_(bias_PO)


def _widen_writer(old: nn.Linear, new: nn.Linear, turn_DE: Tensor) -> None:
    new.weight[:, : old.in_features].copy_(turn_DE @ old.weight)
    new.bias.copy_(turn_DE @ old.bias)


def test_what_fits_into_the_narrower_model_is_kept_whole() -> None:
    torch.manual_seed(0)
    tiny = models.model(models.card("dense", depth=2))
    wide, found = widened(tiny), make_model(models.card("dense", depth=2))
    images_F3HW, others = models.images(24), models.images(4, first=500)
    with torch.no_grad():
        assert (wide(others).raw - tiny(others).raw).abs().max() < 1e-3  # the wider one is what it is meant to be
        kept = narrow(wide, found, images_F3HW)
        agree = (found(others).raw.argmax(1) == wide(others).raw.argmax(1)).float().mean()
    assert kept > 0.99 and agree > 0.9  # 1,152 tokens to fit 769 factors on: of other frames less is kept


def test_a_turned_token_has_no_mean_and_keeps_what_it_can() -> None:
    torch.manual_seed(0)
    wide = models.model(wide_card())
    with torch.no_grad():
        turn_ED = principal_turn(wide, models.images(4), 192)
        x_MD = wide.embed(models.images(4))[0].flatten(0, 1).double()
    x_MD = x_MD - x_MD.mean(1, keepdim=True)
    turned_ME = x_MD @ turn_ED.T
    assert turn_ED.shape == (192, 384)
    assert turned_ME.mean(1).abs().max() < 1e-9
    assert torch.all(turned_ME.norm(dim=1) <= x_MD.norm(dim=1) + 1e-9)
    random_ED = torch.linalg.qr(torch.randn(384, 192, dtype=torch.float64))[0].T
    assert turned_ME.square().sum() > 1.2 * (x_MD @ random_ED.T).square().sum()


def test_least_squares_finds_a_linear_again() -> None:
    torch.manual_seed(0)
    true, found = nn.Linear(5, 3), nn.Linear(5, 3)
    x_BNI = torch.randn(2, 400, 5)
    with torch.no_grad():
        least_squares(found, ((part, true(part)) for part in x_BNI.split(1)))
    assert (found.weight - true.weight).abs().max() < 2e-3 and (found.bias - true.bias).abs().max() < 2e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 3}, "a model of depth 3 can't be narrowed to one of depth 2; choose model.depth: 3"),
        ({"stem": "conv"}, "a model of stem conv can't be narrowed to one of stem patch; choose model.stem: conv"),
        ({"extra_tokens": 1}, "a model with extra tokens can't be narrowed; train one with model.extra_tokens: 0"),
    ],
)
def test_what_can_not_be_narrowed_is_refused(changes: dict[str, Any], said: str) -> None:
    wide, model = make_model(wide_card(**changes)), make_model(models.card("dense", depth=2))
    with pytest.raises(InputError) as caught:
        narrow(wide, model, models.images(1))
    assert str(caught.value) == said


def test_a_narrower_model_has_no_layer_scale() -> None:
    card = models.card("dense", depth=2)
    scaled = card.model_copy(update={"model": card.model.model_copy(update={"layer_scale": 1e-5})})
    with pytest.raises(InputError, match="narrowed to one without a layer scale.*choose model.layer_scale: null"):
        narrow(make_model(wide_card()), make_model(scaled), models.images(1))


@pytest.mark.parametrize("named", ["same", "others"])
def test_the_last_layer_of_other_classes_begins_anew(tmp_path: Path, named: str) -> None:
    """As many of them or not: its third class is not ours."""
    torch.manual_seed(0)
    card = wide_card(depth=3)
    wide = models.model(card)
    names = models.STREET.names if named == "same" else [f"other {index}" for index in range(len(models.STREET.names))]
    path = tmp_path / "small.safetensors"
    save(path, card.model_copy(update={"names": names}), wide.state_dict())
    recipe = models.recipe(tmp_path, weights=str(path), model={"depth": 3, "stem": "patch", "height": 64, "width": 96})
    run = PhaseRun(recipe, "dense", tmp_path)
    model, _ = start_model(run, card_of(run, models.STREET), torch.device("cpu"), resumes=False)
    ours, theirs = (each.get_parameter("head.classify.weight") for each in (model, wide))
    assert torch.equal(ours, theirs) == (named == "same")


def test_a_phase_begins_with_a_wider_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = wide_card(stem="conv", depth=3)
    path = tmp_path / "small.safetensors"
    save(path, wide, models.model(wide).state_dict())
    run = PhaseRun(models.recipe(tmp_path, weights=str(path)), "dense", tmp_path)
    check_start(run)
    card = card_of(run, models.STREET)
    model, started_from = start_model(run, card, torch.device("cpu"), resumes=False)
    again, _ = start_model(run, card, torch.device("cpu"), resumes=True)
    assert started_from == str(path) and card.model.size == "tiny"
    # the finest features are the wider model's own; where a saved state will follow nothing is narrowed
    finest = "stem.stride2.0.weight"
    expected = models.model(wide).state_dict()[finest]
    assert torch.equal(model.state_dict()[finest], expected) and not torch.equal(again.state_dict()[finest], expected)
    without = PhaseRun(run.recipe.model_copy(update={"calibration": None}), "dense", tmp_path)
    with pytest.raises(InputError, match="is narrowed on frames; give `calibration:` in the recipe"):
        check_start(without)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_quantized_phase_measures_the_ranges_of_what_was_narrowed(tmp_path: Path, quantized: bool) -> None:
    """Those of the wider model are of other inputs; it is narrowed as for a phase in float."""
    wide = wide_card(depth=3, stem="conv").model_copy(update={"quantized": quantized})
    path = tmp_path / "small.safetensors"
    save(path, wide, models.model(wide).state_dict())
    recipe = models.changed(models.recipe(tmp_path, weights=str(path)), "qat", start=str(path))
    assert recipe.calibration is not None
    recipe.calibration.equalise = False  # the weights stay as they were narrowed
    started = {}
    for phase in ("dense", "qat"):
        run = PhaseRun(recipe, phase, tmp_path)
        check_start(run)
        started[phase], _ = start_model(run, card_of(run, models.STREET), torch.device("cpu"), resumes=False)
    in_float, found = started["dense"], started["qat"]
    ranges = ptq_ranges(found, CalibrationFrames.model_validate(recipe.calibration))
    linears = dict(quantized_linears(found))
    assert len(linears) == 12 and all(linear.enabled for linear in linears.values())
    for name, linear in linears.items():
        assert torch.equal(linear.weight, in_float.get_parameter(f"{name}.weight"))
        assert linear.input_quantizer.scale.item() == pytest.approx(ranges[name], rel=1e-6)
        assert torch.equal(linear.weight_quantizer.scale, linear.weight.abs().amax(dim=1, keepdim=True))

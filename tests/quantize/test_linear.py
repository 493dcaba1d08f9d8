"""Fake-quantization: values, ranges, folding, and what stays in float."""

import os
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import nncf
import numpy as np
import pytest
import torch
from nncf.torch.extensions import ExtensionLoaderTimeoutException
from nncf.torch.quantization.extensions import QuantizedFunctionsCPU, QuantizedFunctionsCPULoader
from nncf.torch.quantization.reference import torch_executor
from torch import Tensor, nn

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import PRECISIONS
from edgeprune.export.int8 import FoldedLinear, fold_linears, unquantize_linears
from edgeprune.quantize import linear as quantize_linear
from edgeprune.quantize.linear import QuantLinear, load_quantizers, quantize_linears, quantized_linears, set_quantized
from edgeprune.quantize.ranges import SHARES, apply_ranges, least_error_ranges, measure_ranges
from tests import models

MLP = PRECISIONS["int8-mlp"].quantized


def linear(inputs: int = 8, outputs: int = 6, bias: bool = True) -> QuantLinear:
    torch.manual_seed(0)
    made = QuantLinear(nn.Linear(inputs, outputs, bias))
    with torch.no_grad():
        made.weight.mul_(torch.linspace(0.1, 3, outputs)[:, None])  # channels of different size
        made.input_quantizer.scale.fill_(2.0)
    made.reset_weight_scale()
    return made


def by_hand(x: Tensor, step: Tensor | float, low: int, high: int) -> Tensor:
    return (x / step).round().clamp(low, high) * step


def test_inputs_are_rounded_to_signed_steps_and_clamped() -> None:
    made = linear()
    x = torch.linspace(-3, 3, 997)
    expected = by_hand(x, 2 / 127, -128, 127)
    got = made.input_quantizer.quantize(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert made.input_step == pytest.approx(2 / 127)
    assert got.min().item() == pytest.approx(-128 * 2 / 127) and got.max().item() == pytest.approx(2)


def test_weights_are_quantized_by_output_channel_in_a_narrow_range() -> None:
    made = linear()
    step_F1 = made.weight.abs().amax(1, keepdim=True) / 127
    got = made.weight_quantizer.quantize(made.weight)
    torch.testing.assert_close(got, by_hand(made.weight, step_F1, -127, 127), rtol=0, atol=1e-6)
    codes = got / step_F1
    assert codes.min() >= -127.01 and (codes.abs().amax(1) > 126.9).all()
    # a weight beyond its scale stops at -127, not at -128
    with torch.no_grad():
        made.weight[2, 3] = -100
    assert (made.weight_quantizer.quantize(made.weight) / step_F1).min().item() == pytest.approx(-127, abs=0.01)


def test_int8_codes_are_the_fake_quantized_weight() -> None:
    made = linear()
    codes_DF, step_F = made.int8_weight()
    assert codes_DF.dtype == torch.int8 and codes_DF.shape == (8, 6) and step_F.shape == (6,)
    assert codes_DF.is_contiguous() and codes_DF.min() >= -127
    fake_FD = made.weight_quantizer.quantize(made.weight)
    torch.testing.assert_close((codes_DF.float() * step_F).T, fake_FD, rtol=0, atol=1e-6)
    with torch.no_grad():
        made.weight[2, 3] = -100
    assert made.int8_weight()[0][3, 2] == -127


@pytest.mark.parametrize("dialect", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_folded_linear_equals_the_fake_quantized_one(dialect: str, bias: bool) -> None:
    made = linear(32, 16, bias)
    x_ND = torch.randn(10, 32) * 1.5
    expected = made(x_ND)
    got = FoldedLinear(made, dialect)(x_ND)
    half_step = made.input_step * made.int8_weight()[1] / 2  # what an INT32 bias is rounded by
    assert ((got - expected).abs() <= half_step + 1e-5).all()


def test_a_unit_without_weights_keeps_its_bias() -> None:
    """An INT32 bias counts steps of its channel's weights, of which two billion may be less than it."""
    made = linear(32, 16)
    with torch.no_grad():
        made.weight[3] = 0
        made.weight[5] = 1e-9
        made.bias[3], made.bias[5] = 0.7, -3
    made.reset_weight_scale()
    x_ND = torch.randn(10, 32) * 1.5
    folded = FoldedLinear(made, "onnxruntime")
    bias_F = folded.get_buffer("bias_F")
    assert bias_F.dtype == torch.int32 and bias_F.abs().max() <= 2**30
    torch.testing.assert_close(folded(x_ND)[:, [3, 5]], made(x_ND)[:, [3, 5]], rtol=0, atol=1e-5)
    others = [channel for channel in range(16) if channel not in (3, 5)]
    assert torch.equal(folded.get_buffer("weight_DF")[:, others], made.int8_weight()[0][:, others])


def test_gradients_reach_weights_and_both_scales() -> None:
    made = linear()
    (made(torch.randn(5, 8) * 3).square().mean()).backward()
    for parameter in (made.weight, made.bias, made.input_quantizer.scale, made.weight_quantizer.scale):
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0


def test_the_straight_through_gradient_stops_outside_the_range() -> None:
    made = linear()
    x = torch.tensor([0.5, 5.0, -5.0], requires_grad=True)
    made.input_quantizer.quantize(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 0.0, 0.0]


def test_switched_off_it_is_the_plain_linear() -> None:
    made = linear()
    x_ND = torch.randn(5, 8)
    quantized = made(x_ND)
    made.enabled = False
    torch.testing.assert_close(made(x_ND), nn.functional.linear(x_ND, made.weight, made.bias), rtol=0, atol=0)
    assert not torch.equal(quantized, made(x_ND))


def test_in_autocast_the_product_alone_is_rounded_to_bf16() -> None:
    made = linear(32, 16)
    x_ND = torch.randn(10, 32)
    with torch.autocast("cpu", torch.bfloat16):
        got = made(x_ND.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), made(x_ND.bfloat16().float()), rtol=0.03, atol=0.03)


# ------------------------------------------------------------------------------------------------ in a model


def test_only_the_blocks_linears_are_quantized_and_keys_keep_their_names() -> None:
    model = models.model(models.card(depth=3))
    before = set(model.state_dict())
    quantize_linears(model)
    names = [name for name, _ in quantized_linears(model)]
    assert names == [
        f"blocks.{index}.{part}" for index in range(3) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
    assert before < set(model.state_dict())
    assert all("_quantizer." in key for key in set(model.state_dict()) - before)


def test_switching_a_model_off_and_unquantizing_it_give_its_float_twin() -> None:
    model = models.model(models.card(depth=3, quantized=True))
    image_13HW = models.images(1)
    with torch.no_grad():
        quantized = model(image_13HW).raw
        set_quantized(model, ())
        off = model(image_13HW).raw
        set_quantized(model, MLP)
        of_the_mlps = model(image_13HW).raw
        unquantize_linears(model, but=MLP)
        left = [name for name, _ in quantized_linears(model)]
        mlps_left = model(image_13HW).raw
        unquantize_linears(model)
        plain = model(image_13HW).raw
    assert torch.equal(off, plain) and torch.equal(of_the_mlps, mlps_left)
    assert min((one - other).abs().max() for one, other in combinations((quantized, off, of_the_mlps), 2)) > 1e-3
    assert left == [f"blocks.{index}.{part}" for index in range(3) for part in MLP]
    assert not list(quantized_linears(model))


@pytest.mark.parametrize("dialect", ["onnxruntime", "tensorrt"])
def test_a_folded_model_equals_the_fake_quantized_one(dialect: str) -> None:
    model = models.model(models.card("dense", depth=3, quantized=True))
    image_13HW = models.images(1)
    with torch.no_grad():
        expected = model(image_13HW).raw
        fold_linears(model, dialect)
        got = model(image_13HW).raw
    assert (got - expected).abs().mean() < 0.02 * expected.abs().mean()  # a code may flip where two roundings differ
    assert not list(quantized_linears(model))


# ------------------------------------------------------------------------------------------------ ranges


def seen_inputs(model: nn.Module, name: str) -> list[np.ndarray]:
    """Inputs of a linear over two batches, in float."""
    seen: list[np.ndarray] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    set_quantized(model, ())  # type: ignore[arg-type]
    with torch.no_grad():
        for images_B3HW in models.images(4).split(2):
            model(images_B3HW)
    set_quantized(model, quantize_linear.QUANTIZED)  # type: ignore[arg-type]
    handle.remove()
    return seen


@pytest.mark.parametrize("percentile", [100.0, 99.0, 75.0])
def test_ranges_against_numpy(percentile: float) -> None:
    model = models.model(models.card("dense", depth=2, quantized=True))

    def run() -> None:
        for images_B3HW in models.images(4).split(2):
            model(images_B3HW)

    ranges = measure_ranges(model, run, percentile)
    assert list(ranges) == [name for name, _ in quantized_linears(model)]
    for name in ("blocks.0.attn.qkv", "blocks.1.mlp.fc2"):
        expected = max(
            np.percentile(np.abs(batch), percentile, method="inverted_cdf") for batch in seen_inputs(model, name)
        )
        assert ranges[name] == pytest.approx(float(expected), rel=1e-3)


def test_the_range_of_the_least_error_against_the_linears_own_output() -> None:
    """One large value in a channel that the weights hardly read is clipped; in one that they read it is kept."""
    model = models.model(models.card("dense", depth=1, quantized=True))
    linear = dict(quantized_linears(model))["blocks.0.mlp.fc2"]
    x_MD = torch.randn(512, linear.in_features, generator=torch.Generator().manual_seed(0))
    x_MD[0, 0] = 40.0
    weight_FD = linear.weight.detach()

    def output_error(top: float) -> float:
        codes_MD = (x_MD / (top / 127)).round().clamp(-128, 127) * (top / 127)
        return float(((codes_MD - x_MD) @ weight_FD.T).square().mean())

    found = []
    for read in (1e-3, 1e6):
        linear.weight.data[:, 0] *= read
        ranges = least_error_ranges(model, lambda: linear(x_MD), {name: 40.0 for name, _ in quantized_linears(model)})
        assert list(ranges) == ["blocks.0.mlp.fc2"]
        found.append(ranges["blocks.0.mlp.fc2"])
        assert output_error(found[-1]) == pytest.approx(min(output_error(40.0 * share) for share in SHARES), rel=0.1)
    assert found == [pytest.approx(8.0), pytest.approx(40.0)]


def test_measuring_runs_in_float_and_leaves_the_model_as_it_was() -> None:
    model = models.model(models.card("dense", depth=2, quantized=True))
    switched = dict(quantized_linears(model))["blocks.0.attn.qkv"]
    switched.enabled = False
    states: list[bool] = []

    def run() -> None:
        states.extend(linear.enabled for _, linear in quantized_linears(model))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_ranges(model, run, 100)
    assert states == [False] * 8
    assert [name for name, linear in quantized_linears(model) if not linear.enabled] == ["blocks.0.attn.qkv"]
    assert not switched._forward_pre_hooks


def test_applying_ranges_sets_both_scales() -> None:
    model = models.model(models.card("dense", depth=1, quantized=True))
    names = [name for name, _ in quantized_linears(model)]
    with torch.no_grad():
        models.block(model, 0).attn.qkv.weight.mul_(2)
    apply_ranges(model, {name: 3.0 + index for index, name in enumerate(names)})
    for index, (_, made) in enumerate(quantized_linears(model)):
        assert made.input_step == pytest.approx((3 + index) / 127)
        torch.testing.assert_close(made.weight_quantizer.scale, made.weight.abs().amax(1, keepdim=True))


def test_ranges_of_another_model_are_refused() -> None:
    model = models.model(models.card("dense", depth=2, quantized=True))
    ranges = {name: 1.0 for name, _ in quantized_linears(model) if not name.startswith("blocks.1")}
    with pytest.raises(InputError, match="PTQ ranges lack blocks.1.attn.qkv.*calibrate again"):
        apply_ranges(model, ranges)


# ------------------------------------------------------------------------------------------------ without gradients


def test_without_gradients_it_computes_what_the_quantizers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    made = linear(32, 16)
    x_ND = torch.randn(50, 32) * 2
    trained = made(x_ND)
    with torch.no_grad():
        torch.testing.assert_close(made(x_ND), trained, rtol=1e-4, atol=1e-4)
        folded = FoldedLinear(made, "tensorrt")(x_ND)
        torch.testing.assert_close(made(x_ND), folded, rtol=1e-5, atol=1e-5)


def test_evaluation_and_export_need_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """NNCF compiles a C++ extension when its quantizers first run: that is for training alone."""

    def fail(*_: object) -> Tensor:
        raise AssertionError("NNCF's quantizer ran")

    model = models.model(models.card(depth=3, quantized=True))
    monkeypatch.setattr(quantize_linear.SymmetricQuantizer, "quantize", fail)
    with torch.no_grad():
        model(models.images(1))
        x_ND, skips, scores_N = model.trunk(torch.from_numpy(models.frames(1)[0]))
        model.tail(x_ND, skips, scores_N, [8, 8])
    fold_linears(model, "onnxruntime")
    with pytest.raises(AssertionError, match="quantizer ran"):
        models.model(models.card(depth=3, quantized=True))(models.images(1))


def test_a_build_of_the_quantizers_that_hangs_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was killed while it compiled leaves a lock that NNCF waits for."""

    def wait(*_: object) -> Tensor:
        raise ExtensionLoaderTimeoutException("several\nlines")

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(quantize_linear.SymmetricQuantizer, "quantize", wait)
    with pytest.raises(RunError, match=rf"not compiled in 300 s; delete {tmp_path}.* and run again"):
        load_quantizers(torch.device("cpu"))


def test_a_lock_of_a_killed_build_is_removed_before_anything_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = Path(QuantizedFunctionsCPULoader.get_build_dir()) / "lock"
    lock.touch()
    os.utime(lock, (0, 0))

    def quantize(self: object, x: Tensor) -> Tensor:
        assert not lock.exists()  # NNCF would wait for it
        return x

    monkeypatch.setattr(quantize_linear.SymmetricQuantizer, "quantize", quantize)
    said.clear()
    load_quantizers(torch.device("cpu"))
    assert len(said) == 1 and said[0].startswith(f"removed {lock}, which a process that was killed left")


def test_a_gpu_without_its_toolkit_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> Tensor:
        raise nncf.InstallationError("no nvcc,\nsorry")

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(quantize_linear.SymmetricQuantizer, "quantize", fail)
    with pytest.raises(InputError, match="no quantization-aware training on cpu: no nvcc, sorry; or train with"):
        load_quantizers(torch.device("cpu"))


def test_nncf_leaves_standard_output_alone(capfd: pytest.CaptureFixture[str]) -> None:
    nncf.nncf_logger.warning("heard on standard error")
    nncf.nncf_logger.info("not heard")
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_the_fallback_without_an_extension_gives_the_same_values_and_gradients() -> None:
    """NNCF's PyTorch operations, which it takes where nothing can be compiled."""
    load_quantizers(torch.device("cpu"))
    fallback = SimpleNamespace(Quantize_forward=torch_executor.forward, Quantize_backward=torch_executor.backward)
    results = []
    for functions in (QuantizedFunctionsCPU._loaded_namespace, fallback):
        made = linear(32, 16)
        x_ND = torch.randn(20, 32, generator=torch.Generator().manual_seed(1)).mul(1.5).requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QuantizedFunctionsCPU, "_loaded_namespace", functions)
            made(x_ND).square().sum().backward()
        results.append((x_ND.grad, made.weight.grad, made.input_quantizer.scale.grad, made.weight_quantizer.scale.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

"""PTQ: the input ranges of the linears, measured on calibration frames.

Shapes: M rows of a linear's input, D its channels, C candidates.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import QuantLinear, quantized_linears, round_to_steps, set_quantized

# candidates for a range, of the largest magnitude: rounding costs four times less at half of it, clipping more and more
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
Watch = Callable[[str, QuantLinear, Tensor], None]


def measure_ranges(model: Segmenter, run: Callable[[], None], percentile: float | None) -> dict[str, float]:
    """The range of each linear's inputs on calibration frames.

    Args:
        run: feeds the calibration frames through `model`, which runs in float meanwhile; called twice without `percentile`.
        percentile: of the magnitudes, the largest over the frames seen; 100 takes the largest (min-max). None takes the range
            whose codes change the linear's output least (see `least_error_ranges`).

    Returns:
        name of the linear -> range, in units of its input.
    """
    ranges: dict[str, float] = {}

    def note(name: str, _: QuantLinear, x_MD: Tensor) -> None:
        magnitude = x_MD.abs().flatten()
        if percentile is None or percentile >= 100:
            top = magnitude.max()
        else:
            top = magnitude.kthvalue(max(1, round(magnitude.numel() * percentile / 100))).values
        ranges[name] = max(ranges.get(name, 0.0), float(top))

    with watched(model, note):
        run()
    return ranges if percentile is not None else least_error_ranges(model, run, ranges)


def least_error_ranges(model: Segmenter, run: Callable[[], None], largest: dict[str, float]) -> dict[str, float]:
    """Of SHARES of the largest magnitude the range that changes the linear's output least: the square of each channel's error
    by rounding and clipping, times the square of the weights that read it (OMSE: Choukroun et al., "Low-bit Quantization of
    Neural Networks for Efficient Inference", 2019, with the output in place of the input).

    Args:
        largest: magnitude of each linear's inputs.
    """
    errors: dict[str, Tensor] = {}

    def note(name: str, linear: QuantLinear, x_MD: Tensor) -> None:
        read_D = linear.weight.detach().float().square().sum(dim=0)
        found = []
        for share in SHARES:
            step = x_MD.new_tensor(max(share * largest[name], 1e-8) / 127)
            wrong_MD = round_to_steps(x_MD, step, -128) - x_MD
            found.append(wrong_MD.square().sum(dim=0) @ read_D)
        error_C = torch.stack(found).double()
        errors[name] = errors[name] + error_C if name in errors else error_C

    with watched(model, note):
        run()
    return {name: largest[name] * SHARES[int(error_C.argmin())] for name, error_C in errors.items()}


@contextmanager
def watched(model: Segmenter, note: Watch) -> Iterator[None]:
    """Shows `note` every linear's inputs, as rows, of a model that runs in float and without gradients meanwhile."""

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def hook(linear: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(linear, QuantLinear)
            note(name, linear, inputs[0].detach().float().flatten(0, -2))

        return hook

    enabled = [(linear, linear.enabled) for _, linear in quantized_linears(model)]
    handles = [linear.register_forward_pre_hook(watch(name)) for name, linear in quantized_linears(model)]
    set_quantized(model, ())
    try:
        with torch.no_grad():
            yield
    finally:
        for linear, value in enabled:
            linear.enabled = value
        for handle in handles:
            handle.remove()


def apply_ranges(model: Segmenter, ranges: dict[str, float]) -> None:
    """Sets the input scales to measured ranges, and the weight scales to the weights' own.

    Raises:
        InputError: the ranges are of another model.
    """
    for name, linear in quantized_linears(model):
        if name not in ranges:
            raise InputError(f"PTQ ranges lack {name}; they are of another model: calibrate again")
        with torch.no_grad():
            linear.input_quantizer.scale.fill_(max(ranges[name], 1e-8))
        linear.reset_weight_scale()

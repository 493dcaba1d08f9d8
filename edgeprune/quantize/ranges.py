"""PTQ: the input ranges of the linears, measured on calibration frames."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import quantized_linears, set_quantized


def measure_ranges(model: Segmenter, run: Callable[[], None], percentile: float) -> dict[str, float]:
    """The magnitude below which `percentile` of each linear's inputs lie, the largest over the frames seen.

    Args:
        run: feeds the calibration frames through `model`, which runs in float meanwhile.
        percentile: 100 takes the largest magnitude (min-max).

    Returns:
        name of the linear -> range, in units of its input.
    """
    ranges: dict[str, float] = {}

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            magnitude = inputs[0].detach().abs().float().flatten()
            if percentile >= 100:
                top = magnitude.max()
            else:
                rank = max(1, round(magnitude.numel() * percentile / 100))
                top = magnitude.kthvalue(rank).values
            ranges[name] = max(ranges.get(name, 0.0), float(top))

        return hook

    enabled = [(linear, linear.enabled) for _, linear in quantized_linears(model)]
    handles = [linear.register_forward_pre_hook(watch(name)) for name, linear in quantized_linears(model)]
    set_quantized(model, ())
    try:
        with torch.no_grad():
            run()
    finally:
        for linear, value in enabled:
            linear.enabled = value
        for handle in handles:
            handle.remove()
    return ranges


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

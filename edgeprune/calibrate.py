"""Calibration: gate thresholds, occupancy and PTQ ranges, measured on frames and kept in `calib/` so that a build needs no
data set.

Why thresholds are calibrated at all: gates are sampled in training, so a gate that sits near p = 0.6 keeps 60% there, and
everything when its score is cut at zero. Each threshold here is the quantile that keeps the target share over the frames.

Shapes: F calibration frames, N tokens, G gates.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import yaml
from pydantic import Field
from torch import Tensor

from edgeprune.config import Calibration, Strict, load_data_set, parse, read_yaml
from edgeprune.data import open_split, spread
from edgeprune.data.preprocess import Preprocess
from edgeprune.files import write_atomic
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize import measure_ranges, quantized_linears, set_quantized


class Calib(Strict):
    """`calib/<model>.yaml`: what was measured, and on which frames."""

    model: str
    data: str
    split: str
    frames: list[str]
    # per gate, for the float and for the fake-quantized model
    thresholds: dict[str, list[float]] = Field(default_factory=dict)
    # per precision: for each frame the share of tokens over the threshold, per gate (F, G)
    occupancy: dict[str, list[list[float]]] = Field(default_factory=dict)
    ranges: dict[str, float] = Field(default_factory=dict)

    def thresholds_of(self, precision: str) -> list[float]:
        """Of each gate, in graphs of a precision: FP16 takes those of FP32. Empty where they are not known."""
        return self.thresholds.get("int8" if precision == "int8" else "fp32", [])


def calibration_frames(spec: Calibration, preprocess: Preprocess) -> tuple[list[str], Tensor]:
    """Names and images (F, 3, H, W) of frames spread evenly over the split that the recipe names."""
    split = open_split(load_data_set(spec.data), spec.split, spec.include, spec.exclude)
    chosen = spread(len(split), spec.frames)
    images_FHW3 = np.stack([preprocess.fit(split[index].image_HW3) for index in chosen])
    return [split.names[index] for index in chosen], torch.from_numpy(images_FHW3).permute(0, 3, 1, 2).float()


def as_uint8(images_F3HW: Tensor) -> npt.NDArray[np.uint8]:
    """The same as the graphs take them: (F, H, W, 3), uint8."""
    frames_FHW3: npt.NDArray[np.uint8] = images_F3HW.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    return frames_FHW3


def calibrate_thresholds(model: Segmenter, images_F3HW: Tensor) -> tuple[list[float], list[list[float]]]:
    """The score that each gate must exceed, and each frame's occupancy with these.

    Gate after gate in one pass: a gate's quantile is taken with the gates before it already cut at theirs.

    Returns:
        thresholds (G), occupancy (F, G) as shares of the grid.
    """
    thresholds: list[float] = []
    shares = model.policy.chosen_shares

    def cut(gate: int, scores_FN: Tensor) -> Tensor:
        threshold = float(scores_FN.float().flatten().quantile(1 - shares[gate]))
        thresholds.append(threshold)
        return (scores_FN > threshold).to(scores_FN.dtype)

    select: Select = cut
    model.eval()
    with torch.no_grad():
        keep_GFN = model(images_F3HW, select).masked.keep_GBN
    return thresholds, torch.stack([keep_FN.float().mean(dim=-1) for keep_FN in keep_GFN], dim=-1).tolist()


def calibrate(model: Segmenter, spec: Calibration, name: str) -> Calib:
    """Everything that a build of `model` needs to know about real frames."""
    names, images_F3HW = calibration_frames(spec, Preprocess.of(model.spec))
    calib = Calib(model=name, data=spec.data, split=spec.split, frames=names)
    quantized = any(True for _ in quantized_linears(model))
    for precision in ("fp32", "int8") if quantized else ("fp32",):
        set_quantized(model, precision == "int8")
        if model.policy.gated:
            calib.thresholds[precision], calib.occupancy[precision] = calibrate_thresholds(model, images_F3HW)
    if quantized:
        calib.ranges = {name: linear.input_step * 127 for name, linear in quantized_linears(model)}
    return calib


def ptq_ranges(model: Segmenter, spec: Calibration) -> dict[str, float]:
    """Input ranges of a model whose quantizers have not been trained; gates keep the best tokens at their targets."""
    _, images_F3HW = calibration_frames(spec, Preprocess.of(model.spec))

    def run() -> None:
        for images_B3HW in images_F3HW.split(8):
            model(images_B3HW)

    model.eval()
    return measure_ranges(model, run, spec.percentile)


def write_calib(path: Path, calib: Calib) -> None:
    """Writes the YAML; occupancy is rounded to a hundred-thousandth, far less than one token."""
    content = calib.model_dump()
    content["occupancy"] = {
        key: [[round(share, 5) for share in frame] for frame in frames] for key, frames in calib.occupancy.items()
    }
    with write_atomic(path, "calibration") as partial:
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
        partial.write_text(text, encoding="utf-8")


def read_calib(path: Path) -> Calib:
    """Raises InputError where the file is missing or is none."""
    return parse(Calib, read_yaml(path, "calibration"), str(path))

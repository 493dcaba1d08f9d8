"""What INT8 costs: post-training ranges of several kinds, trained ranges, and each kind of layer alone.

A policy chooses with quantized features, so beside mIoU stands how many of the tokens it keeps are those that the float model
keeps: a model can hold its labels on other tokens.

Shapes: B batch, N tokens, G decisions.
"""

import copy
import logging
from dataclasses import dataclass

from torch import Tensor

from edgeprune.bundle import PRECISIONS
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.lab.ablate.int8_graph import agreement_by_gate, score_nncf
from edgeprune.lab.token_selection import kept_masks, watched_frames
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calibrate import as_uint8, calibration_frames, ptq_ranges
from edgeprune.quantize.linear import QUANTIZED, quantize_linears, quantized_linears, set_quantized
from edgeprune.quantize.ranges import apply_ranges
from edgeprune.train.validation import score

logger = logging.getLogger(__name__)

LEAST_ERROR = None  # see `measure_ranges`
PERCENTILES = (100.0, LEAST_ERROR, 99.99, 99.9)


@dataclass(frozen=True)
class Int8Row:
    """A model in INT8 against the same weights in float.

    Attributes:
        int8: what is quantized, and how.
        miou: 0 to 1.
        lost_points: of mIoU, under float.
        agreement: share of the kept tokens that float keeps too, mean over the gates; None without gates.
        agreement_by_gate: gate by gate.
    """

    int8: str
    miou: float
    lost_points: float
    agreement: float | None
    agreement_by_gate: list[float] | None


def ablate_int8(
    model: Segmenter,
    data_set: DataSet,
    samples: Samples,
    calibration: CalibrationFrames,
    frames: int | None,
) -> list[Int8Row]:
    """mIoU and equal selections of a model in INT8 against the same weights in float.

    Of a model without quantizers: PTQ by each of PERCENTILES (100 is min-max, None the least error), by NNCF's algorithms
    (against the same graph in float), then the first of PERCENTILES for one kind of layer at a time. Of a model after QAT: its
    trained ranges, these in the MLPs alone, PTQ by the first two on the same weights, then the kinds.

    Args:
        calibration: the frames that PTQ ranges are measured on.
    """
    trained = any(True for _ in quantized_linears(model))
    plain = model
    model = copy.deepcopy(model)
    if not trained:
        quantize_linears(model)
    images_BHW3 = watched_frames(model, samples)
    set_quantized(model, ())
    float_miou = score(model, data_set, samples, frames, None).miou
    float_keep = kept_masks(model, images_BHW3)
    rows = [_row("none: float", float_miou, float_miou, [])]
    logger.info(f"none: float: mIoU {float_miou:.4f}")

    def add(name: str) -> None:
        miou = score(model, data_set, samples, frames, None).miou
        rows.append(_row(name, miou, float_miou, _agreement(float_keep, kept_masks(model, images_BHW3))))
        logger.info(f"{name}: mIoU {miou:.4f}")

    set_quantized(model, QUANTIZED)
    if trained:
        add("all linears, trained ranges")
        set_quantized(model, PRECISIONS["int8-mlp"].quantized)
        add("MLPs alone, trained ranges")
        set_quantized(model, QUANTIZED)
    ranges = {
        percentile: ptq_ranges(model, calibration.model_copy(update={"percentile": percentile}))
        for percentile in PERCENTILES[: 2 if trained else None]
    }
    for percentile, measured in ranges.items():
        apply_ranges(model, measured)
        add(f"all linears, PTQ {describe_ranges(percentile)}")
    if not trained and plain.policy.not_exportable:
        logger.info(f"NNCF's rows are left out, it works on graphs: {plain.policy.not_exportable}")
    elif not trained:
        _, frames_F3HW = calibration_frames(calibration, Preprocess.of(model.spec))
        as_float, by_name = score_nncf(plain, data_set, samples, frames, images_BHW3.numpy(), as_uint8(frames_F3HW))
        for name, result in {"none: float, as a graph": as_float, **by_name}.items():
            rows.append(_row(name, result.miou, as_float.miou, agreement_by_gate(as_float, result)))
            logger.info(f"{name}: mIoU {result.miou:.4f}")
    apply_ranges(model, ranges[PERCENTILES[0]])
    for kind in QUANTIZED:
        set_quantized(model, (kind,))
        add(f"{kind} alone, PTQ {describe_ranges(PERCENTILES[0])}")
    return rows


def describe_ranges(percentile: float | None) -> str:
    """One of PERCENTILES, as the rows name it."""
    if percentile is LEAST_ERROR:
        return "least error"
    return "min-max" if percentile == 100 else f"{percentile:g}%"


def _agreement(one_GBN: Tensor | None, other_GBN: Tensor | None) -> list[float]:
    if one_GBN is None or other_GBN is None:
        return []
    both_G = (one_GBN * other_GBN).sum(dim=(1, 2)) / one_GBN.sum(dim=(1, 2))
    return [float(share) for share in both_G]


def _row(name: str, miou: float, float_miou: float, agreement_G: list[float]) -> Int8Row:
    return Int8Row(
        int8=name,
        miou=miou,
        lost_points=100 * (float_miou - miou),
        agreement=sum(agreement_G) / len(agreement_G) if agreement_G else None,
        agreement_by_gate=[round(share, 4) for share in agreement_G] or None,
    )

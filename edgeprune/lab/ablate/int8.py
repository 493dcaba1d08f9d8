"""What INT8 costs: post-training ranges of several kinds, trained ranges, and each kind of layer alone.

A policy chooses with quantized features, so beside the figure of the model's task stands how many of the tokens it keeps are
those that the float model keeps: a model can hold its answers on other tokens.

Shapes: B batch, N tokens, G decisions.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from edgeprune.base.errors import choose
from edgeprune.base.table import INLINE
from edgeprune.bundle import PRECISIONS
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.evaluate.tasks import METRICS
from edgeprune.lab.ablate.int8_graph import agreement_by_gate, score_nncf
from edgeprune.lab.token_selection import kept_masks, watched_frames
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calibrate import as_uint8, calibration_frames, ptq_ranges
from edgeprune.quantize.linear import QUANTIZED, quantize_linears, quantized_linears, set_quantized
from edgeprune.quantize.ranges import apply_ranges
from edgeprune.train.tasks import TASKS

logger = logging.getLogger(__name__)

LEAST_ERROR = None  # see `measure_ranges`
PERCENTILES = (100.0, LEAST_ERROR, 99.99, 99.9)


@dataclass(frozen=True)
class Int8Row:
    """A model in INT8 against the same weights in float.

    Attributes:
        int8: what is quantized, and how.
        figures: the figure of the model's task by its name, 0 to 1.
        lost_points: of it, under float.
        agreement: share of the kept tokens that float keeps too, mean over the gates; None without gates.
        agreement_by_gate: gate by gate.
    """

    int8: str
    figures: Mapping[str, float] = field(metadata=INLINE)
    lost_points: float
    agreement: float | None
    agreement_by_gate: list[float] | None


class Rows:
    """The rows of one model. `task`: a key of METRICS."""

    def __init__(self, task: str) -> None:
        self._metric = choose(METRICS, task, "task")
        self.found: list[Int8Row] = []

    def add(self, name: str, score: float, of_float: float, agreement_G: list[float]) -> None:
        """Adds a row of what scores `score`, and in float `of_float`."""
        row = Int8Row(
            int8=name,
            figures={self._metric.figure: score},
            lost_points=100 * (of_float - score),
            agreement=sum(agreement_G) / len(agreement_G) if agreement_G else None,
            agreement_by_gate=[round(share, 4) for share in agreement_G] or None,
        )
        self.found.append(row)
        logger.info(f"{name}: {self._metric.called()} {score:.4f}")


def ablate_int8(
    model: Segmenter,
    data_set: DataSet,
    samples: Samples,
    calibration: CalibrationFrames,
    frames: int | None,
) -> list[Int8Row]:
    """The figure of the model's task, and equal selections, of a model in INT8 against the same weights in float.

    Of a model without quantizers: PTQ by each of PERCENTILES (100 is min-max, None the least error), by NNCF's algorithms
    (against the same graph in float), then the first of PERCENTILES for one kind of layer at a time. Of a model after QAT: its
    trained ranges, these in the MLPs alone, PTQ by the first two on the same weights, then the kinds.

    Args:
        samples: from `evaluate.accuracy.open_scored`, with what the model's task scores.
        calibration: the frames that PTQ ranges are measured on.
    """
    trained = any(True for _ in quantized_linears(model))
    plain = model
    model = copy.deepcopy(model)
    if not trained:
        quantize_linears(model)
    images_BHW3 = watched_frames(model, samples)
    set_quantized(model, ())
    of_float = _score(model, data_set, samples, frames)
    float_keep = kept_masks(model, images_BHW3)
    rows = Rows(model.spec.task)
    rows.add("none: float", of_float, of_float, [])

    def add(name: str) -> None:
        score = _score(model, data_set, samples, frames)
        rows.add(name, score, of_float, _agreement(float_keep, kept_masks(model, images_BHW3)))

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
            rows.add(name, result.score, as_float.score, agreement_by_gate(as_float, result))
    apply_ranges(model, ranges[PERCENTILES[0]])
    for kind in QUANTIZED:
        set_quantized(model, (kind,))
        add(f"{kind} alone, PTQ {describe_ranges(PERCENTILES[0])}")
    return rows.found


def _score(model: Segmenter, data_set: DataSet, samples: Samples, frames: int | None) -> float:
    """The figure of the model's task."""
    task = model.spec.task
    judged = choose(TASKS, task, "task").judge(model, data_set, samples, frames, None)
    return float(judged.figures[METRICS[task].figure])


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

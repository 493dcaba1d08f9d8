"""Semantic segmentation, scored at the frame's own pixels, or at the size that the data set names.

Array shapes: H W pixels of a frame, h w of the label maps that graphs give.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import choose
from edgeprune.bundle import Bundle, Manifest
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet
from edgeprune.data.lint import LabelReport
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.metrics import Scores
from edgeprune.evaluate.small_things import SMALL_PX
from edgeprune.evaluate.tasks.metric import Columns, Metric, check_classes
from edgeprune.runtime.engines.engine import Outputs

Bool = npt.NDArray[np.bool_]
NO_THINGS = (
    f"small things: mIoU of things of under {SMALL_PX:,} pixels; the data set names no classes that are things: "
    "`things: [car, person]` in its YAML (docs/data.md)"
)


class Semantic(Metric):
    """mIoU, pixel accuracy, boundary F and mIoU of small things of label maps (`Scores`), on labels that were looked at
    (`LabelReport`). Pixels outside the bundle's region are scored of no graph, the dense reference's neither."""

    figure = "miou"
    columns: ClassVar[Columns] = {
        "miou": ("mIoU", ".4f"),
        "pixel_accuracy": ("pixel acc", ".4f"),
        "boundary_f": ("boundary F", ".4f"),
        "small_things_miou": ("small things", ".4f"),
    }
    brief = ("miou", "boundary_f", "small_things_miou")
    by_class = ("per_class_iou", "IoU")
    unmeasured: ClassVar[dict[str, str]] = {
        "small_things_miou": "small things: not measured, or the data set names no `things` (docs/data.md)"
    }

    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        check_classes(bundle.manifest.names, f"bundle {bundle.folder}", data_set)
        self._preprocess, self._data_set = Preprocess.of(bundle.manifest), data_set
        self._inside_hw = bundle.manifest.inside_hw
        self._report = LabelReport(data_set, frames)
        self._inside_px = self._all_px = 0

    @staticmethod
    def notes(data_set: DataSet) -> list[str]:
        return [] if data_set.things else [NO_THINGS]

    def look_at(self, sample: Sample, origin: str) -> None:
        self._report.add(sample.label_HW, origin)
        if self._inside_hw is not None:
            inside_HW = self._preprocess.back(self._inside_hw, *sample.label_HW.shape)
            self._inside_px += int(inside_HW.sum())
            self._all_px += inside_HW.size
            self.scored_share = self._inside_px / self._all_px

    def check(self) -> None:
        self._report.check()

    def scores(self) -> "LabelScores":
        return LabelScores(self._preprocess, self._data_set, self._inside_hw)

    @staticmethod
    def answers(manifest: Manifest, data_set: DataSet) -> "LabelCounts":
        return LabelCounts(Preprocess.of(manifest), data_set)


class LabelScores:
    """The label maps of one row, mapped back to the frame's own pixels.

    Args:
        inside_hw: True where they are scored, at the resolution of the graphs' labels; None: everywhere.
    """

    def __init__(self, preprocess: Preprocess, data_set: DataSet, inside_hw: Bool | None = None):
        height, width = data_set.score_height, data_set.score_width
        self._preprocess, self._inside_hw, self._ignore_index = preprocess, inside_hw, data_set.ignore_index
        size = (height, width) if height and width else None
        self._scores = Scores(data_set.names, data_set.ignore_index, size, data_set.things)

    def add(self, outputs: Outputs, sample: Sample) -> None:
        label_hw, label_HW = choose(outputs, "labels", "output of a graph:"), sample.label_HW
        size = label_HW.shape
        if self._inside_hw is not None:
            inside_HW = self._preprocess.back(self._inside_hw, *size)
            label_HW = np.where(inside_HW, label_HW, np.uint8(self._ignore_index))
        self._scores.update(self._preprocess.back(label_hw, *size), label_HW)

    def result(self) -> dict[str, Any]:
        return self._scores.result()


class LabelCounts:
    """What a study keeps of label maps: counts of labels and predictions at each frame's own pixels, outside a region too."""

    def __init__(self, preprocess: Preprocess, data_set: DataSet):
        self._preprocess, self._data_set = preprocess, data_set
        self._counts_ACC: list[npt.NDArray[np.int64]] = []  # of each answer

    def add(self, outputs: Outputs, sample: Sample) -> None:
        label_hw, matrix = choose(outputs, "labels", "output of a graph:"), self._matrix()
        matrix.update(self._preprocess.back(label_hw, *sample.label_HW.shape), sample.label_HW)
        self._counts_ACC.append(matrix.counts_CC)

    def figure_of(self, places: Sequence[int]) -> float:
        """mIoU; nan where nothing was counted."""
        matrix = self._matrix()
        for place in places:
            matrix.counts_CC += self._counts_ACC[place]
        return matrix.miou

    def _matrix(self) -> ConfusionMatrix:
        return ConfusionMatrix(len(self._data_set.names), self._data_set.ignore_index)

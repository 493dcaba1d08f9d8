"""Semantic segmentation, scored at the frame's own pixels, or at the size that the data set names.

Array shapes: H W pixels of a frame, h w of the label maps that graphs give.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet
from edgeprune.data.lint import LabelReport
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.metrics import Scores
from edgeprune.evaluate.tasks.metric import Metric
from edgeprune.runtime.engines.engine import Outputs

Bool = npt.NDArray[np.bool_]


class Semantic(Metric):
    """mIoU, pixel accuracy, boundary F and mIoU of small things of label maps (`Scores`), on labels that were looked at
    (`LabelReport`). Pixels outside the bundle's region are scored of no graph, the dense reference's neither."""

    figure = "miou"

    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        check_classes(bundle, data_set)
        self._preprocess, self._data_set = Preprocess.of(bundle.manifest), data_set
        self._inside_hw = bundle.manifest.inside_hw
        self._report = LabelReport(data_set, frames)
        self._inside_px = self._all_px = 0

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


def check_classes(bundle: Bundle, data_set: DataSet) -> None:
    """Refuses a data set whose classes aren't the model's.

    Raises:
        InputError: names the first difference.
    """
    model, data = bundle.manifest.names, data_set.names
    if len(model) != len(data):
        raise InputError(
            f"data set {data_set.name!r} has {len(data)} classes, bundle {bundle.folder} {len(model)}; "
            "score it on data with the classes that it was trained on"
        )
    for index, (ours, theirs) in enumerate(zip(model, data, strict=True)):
        if ours != theirs:
            raise InputError(
                f"class {index} is {theirs!r} in data set {data_set.name!r} but {ours!r} in bundle {bundle.folder}; "
                "put the names of the data-set YAML in the order of the bundle's"
            )

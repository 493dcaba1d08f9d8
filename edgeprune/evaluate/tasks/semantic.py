"""Semantic segmentation, scored at the frame's own pixels, or at the size that the data set names."""

from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet
from edgeprune.data.lint import LabelReport
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.metrics import Scores
from edgeprune.evaluate.tasks.metric import Metric
from edgeprune.runtime.engines.engine import Outputs


class Semantic(Metric):
    """mIoU, pixel accuracy and boundary F of label maps (`Scores`), on labels that were looked at (`LabelReport`)."""

    figure = "miou"

    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        check_classes(bundle, data_set)
        self._preprocess, self._data_set = Preprocess.of(bundle.manifest), data_set
        self._report = LabelReport(data_set, frames)

    def look_at(self, sample: Sample, origin: str) -> None:
        self._report.add(sample.label_HW, origin)

    def check(self) -> None:
        self._report.check()

    def scores(self) -> "LabelScores":
        return LabelScores(self._preprocess, self._data_set)


class LabelScores:
    """The label maps of one row, mapped back to the frame's own pixels."""

    def __init__(self, preprocess: Preprocess, data_set: DataSet):
        height, width = data_set.score_height, data_set.score_width
        self._preprocess = preprocess
        self._scores = Scores(data_set.names, data_set.ignore_index, (height, width) if height and width else None)

    def add(self, outputs: Outputs, sample: Sample) -> None:
        label_hw = choose(outputs, "labels", "output of a graph:")
        self._scores.update(self._preprocess.back(label_hw, *sample.label_HW.shape), sample.label_HW)

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

"""Label lint: reads labels before training does, and says what is wrong with them and which classes they hold."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.config import DataSet
from edgeprune.data.samples import Samples
from edgeprune.data.split import spread
from edgeprune.errors import InputError


@dataclass
class LabelReport:
    """What `lint_labels` found in `frames` frames of a split of `total`."""

    data_set: DataSet
    total: int
    frames: int = 0
    pixels_256: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    frames_256: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    # the first label that has an id outside the classes, by id
    strays: dict[int, str] = field(default_factory=dict)
    # one line for each frame that can't be read, or whose image and label differ in size
    unreadable: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """One line for each class that no label has: it can be neither learnt nor scored."""
        return [
            f"class {index} ({name}) is in none of the {self.frames} labels"
            for index, name in enumerate(self.data_set.names)
            if self.frames and self.pixels_256[index] == 0
        ]

    def rows(self) -> list[dict[str, Any]]:
        """The histogram as a table: for each class and the ignored pixels, their share and the frames with them."""
        names = dict(enumerate(self.data_set.names)) | {self.data_set.ignore_index: "(ignore)"}
        total = max(int(self.pixels_256.sum()), 1)
        return [
            {
                "id": index,
                "name": name,
                "pixels": int(self.pixels_256[index]),
                "share": float(self.pixels_256[index]) / total,
                "frames": int(self.frames_256[index]),
            }
            for index, name in names.items()
        ]

    def check(self) -> None:
        """Refuses labels that can't be trained on or scored.

        Raises:
            InputError: the first unreadable frame, else the first id outside the classes, and how many more there are.
        """
        if self.unreadable:
            more = f" (and {len(self.unreadable) - 1} more frames)" if len(self.unreadable) > 1 else ""
            raise InputError(self.unreadable[0] + more)
        if self.strays:
            index, origin = next(iter(self.strays.items()))
            others = [str(other) for other in self.strays if other != index]
            raise InputError(
                f"label {origin} has id {index} ({self.frames_256[index]} of {self.frames} frames have it); expected "
                f"0 to {len(self.data_set.names) - 1}, or {self.data_set.ignore_index} (ignore)"
                + (f"; also found: {', '.join(others)}" if others else "")
                + "; correct the labels, or `names` and `ignore_index` in the data-set YAML"
            )


def lint_labels(samples: Samples, data_set: DataSet, limit: int | None = None) -> LabelReport:
    """Reads every frame, or `limit` frames spread evenly over the split, and reports; `LabelReport.check` refuses."""
    report = LabelReport(data_set, len(samples))
    allowed = {*range(len(data_set.names)), data_set.ignore_index}
    for index in spread(len(samples), limit):
        try:
            label_HW = samples[index].label_HW
        except InputError as error:
            report.unreadable.append(str(error))
            continue
        counts_256 = np.bincount(label_HW.ravel(), minlength=256)
        report.frames += 1
        report.pixels_256 += counts_256
        report.frames_256 += counts_256 > 0
        for stray in np.flatnonzero(counts_256).tolist():
            if stray not in allowed:
                report.strays.setdefault(stray, samples.origin(index))
    return report

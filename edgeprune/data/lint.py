"""Label lint: reads labels before training does, and says what is wrong with them and which classes they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import IGNORE, DataSet
from edgeprune.data.samples import Samples, UInt8
from edgeprune.data.split import spread


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

    def add(self, label_HW: UInt8, origin: str) -> None:
        """Counts a frame's ids. `origin`: where its label is from, for messages."""
        counts_256 = np.bincount(label_HW.ravel(), minlength=256)
        self.frames += 1
        self.pixels_256 += counts_256
        self.frames_256 += counts_256 > 0
        for found in np.flatnonzero(counts_256).tolist():
            if found >= len(self.data_set.names) and found != self.data_set.ignore_index:
                self.strays.setdefault(found, origin)

    def check(self) -> None:
        """Refuses labels that can't be trained on or scored.

        Raises:
            InputError: the first unreadable frame, else the first id outside the classes, and how many more there are; or
                labels in which everything is ignored, or everything but one class without `ids` that say so.
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
                + self._counted_from_one()
            )
        self._check_something_is_left()

    def _counted_from_one(self) -> str:
        """What to type where the only stray id is the one after the last: 0 is no class then, as in ADE20K."""
        names = self.data_set.names
        if list(self.strays) != [len(names)]:
            return ""
        return f"; where 0 is no class and ids count from 1, write {_ids_line([IGNORE, *names])}"

    def _check_something_is_left(self) -> None:
        """Masks of 0 and 255 leave one class, for 255 is ignored: such labels train to a fine mIoU, and to nothing."""
        names, ignored = self.data_set.names, self.data_set.ignore_index
        seen = np.flatnonzero(self.pixels_256[: len(names)]).tolist()
        if not self.frames or not self.pixels_256[ignored] or len(seen) > 1:
            return
        if not seen:
            raise InputError(
                f"every pixel of the {self.frames} labels of data set {self.data_set.name!r} is ignored (id {ignored}); there "
                "is nothing to learn or to score: correct the labels, or `ids` and `ignore_index` in the data-set YAML"
            )
        if not self.data_set.ids:  # where there are, they say what is ignored
            other = names[1 - seen[0]] if len(names) == 2 else "CLASS"
            raise InputError(
                f"the {self.frames} labels of data set {self.data_set.name!r} hold the ids {seen[0]} and {ignored} alone, and "
                f"{ignored} is ignored, so {names[seen[0]]!r} is the only class left; where {ignored} is a class, write "
                f"{_ids_line({seen[0]: names[seen[0]], ignored: other})} in the data-set YAML, where it is none "
                f"{_ids_line({seen[0]: names[seen[0]], ignored: IGNORE})}"
            )


def _ids_line(classes: Sequence[str] | Mapping[int, str]) -> str:
    """The key `ids` as one would type it, shortened where there are many."""
    rows = [
        f"{index}: {name}" for index, name in (classes.items() if isinstance(classes, Mapping) else enumerate(classes))
    ]
    shown = rows if len(rows) <= 8 else [*rows[:4], "...", rows[-1]]
    return f"`ids: {{{', '.join(shown)}}}`"


def lint_labels(samples: Samples, data_set: DataSet, limit: int | None = None) -> LabelReport:
    """Reads every frame, or `limit` frames spread evenly over the split, and reports; `LabelReport.check` refuses."""
    report = LabelReport(data_set, len(samples))
    for index in spread(len(samples), limit):
        try:
            label_HW = samples[index].label_HW
        except InputError as error:
            report.unreadable.append(str(error))
            continue
        report.add(label_HW, samples.origin(index))
    return report

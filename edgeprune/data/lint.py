"""Label lint: reads labels before training does, and says what is wrong with them and which classes they hold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import IGNORE, DataSet
from edgeprune.data.duplicates import FrameHashes
from edgeprune.data.folder import FolderSamples, Look, MissingLabels
from edgeprune.data.outline_lint import OutlineReport
from edgeprune.data.samples import Samples, UInt8, WrongIds, WrongSize
from edgeprune.data.split import open_split, spread

# of what can be wrong with a frame, and what is counted of it: a file that can't be read, sizes, ids
KINDS: dict[type[InputError], str] = {InputError: "file", WrongSize: "frame", WrongIds: "label"}
GUESSED = re.compile(r"class_(\d+)")  # a class that no file names, and its id
RARE = 1e-4  # of the pixels


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
    # by kind, the line of the first frame that is of no use, and how many there are
    faults: dict[type[InputError], tuple[str, int]] = field(default_factory=dict)
    outlines: OutlineReport | None = None  # where labels have outlines, and they were to be looked at
    things: int = 0  # that are told apart, of samples that were opened with their things

    @property
    def warnings(self) -> list[str]:
        """One line for each class that no label has, which can be neither learnt nor scored, and for each that may be none."""
        absent = [
            f"class {index} ({name}) is in none of the {self.frames} labels"
            for index, name in enumerate(self.data_set.names)
            if self.frames and self.pixels_256[index] == 0
        ]
        return absent + self._doubtful()

    def rows(self) -> list[dict[str, Any]]:
        """The histogram as a table: for each class and the ignored pixels, their share and the frames with them, and how many
        things where there are outlines."""
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
            | ({} if self.outlines is None else {"things": int(self.outlines.things_256[index])})
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
            InputError: the first of `problems`, and how many more there are.
        """
        problems = self.problems()
        if problems:
            more = f"; `edgeprune data lint` tells {_more(len(problems) - 1, 'problem')}" if problems[1:] else ""
            raise InputError(problems[0] + more)

    def problems(self) -> list[str]:
        """One line for each kind of what keeps the labels from being trained on or scored: files that can't be read, sizes that
        differ, ids outside the classes (the first frame of each, and how many more there are); labels in which everything is
        ignored, or everything but one class without `ids` that say so."""
        found = [
            line + (f" (and {_more(count - 1, what)})" if count > 1 else "")
            for kind, what in KINDS.items()
            if kind in self.faults
            for line, count in [self.faults[kind]]
        ]
        if self.strays:
            found.append(self._strays())
        elif WrongIds not in self.faults and (line := self._nothing_left()):
            found.append(line)
        return found

    def add_fault(self, error: InputError) -> None:
        """Counts what is wrong with one frame."""
        kind = type(error) if type(error) in KINDS else InputError
        first, count = self.faults.get(kind, (str(error), 0))
        self.faults[kind] = first, count + 1

    def _strays(self) -> str:
        index, origin = next(iter(self.strays.items()))
        others = [str(other) for other in self.strays if other != index]
        return (
            f"label {origin} has id {index} ({self.frames_256[index]} of {self.frames} frames have it); expected "
            f"0 to {len(self.data_set.names) - 1}, or {self.data_set.ignore_index} (ignore)"
            + (f"; also found: {', '.join(others)}" if others else "")
            + "; correct the labels, or `names` and `ignore_index` in the data-set YAML"
            + self._counted_from_one()
        )

    def _doubtful(self) -> list[str]:
        """Where the masks alone say which classes there are, a border's or a slip's id is taken for one: an id that few pixels
        have, or one that is far from those before it."""
        guesses = [GUESSED.fullmatch(name) for name in self.data_set.names]
        ids = [int(guess[1]) for guess in guesses if guess is not None]
        if len(ids) < len(guesses):
            return []
        total, far, found = max(int(self.pixels_256.sum()), 1), _begins_far(ids), []
        for index, (before, id_) in enumerate(zip([-1, *ids], ids, strict=False)):
            share, frames = self.pixels_256[index] / total, self.frames_256[index]
            if not frames or (share >= RARE and index < far):
                continue
            apart = f", and none has an id from {before + 1} to {id_ - 1}" if id_ - before > 1 else ""
            found.append(
                f"class_{id_} has {share:.2%} of the pixels, in {frames} of {self.frames} labels{apart}; where it is no class, "
                f"say so in the YAML that `edgeprune data init` writes (`{id_}: {IGNORE}` in `ids`, or a colour in "
                "`ignore_colours`)"
            )
        return found

    def _counted_from_one(self) -> str:
        """What to type where the only stray id is the one after the last: 0 is no class then, as in ADE20K."""
        names = self.data_set.names
        if list(self.strays) != [len(names)]:
            return ""
        return f"; where 0 is no class and ids count from 1, write {_ids_line([IGNORE, *names])}"

    def _nothing_left(self) -> str | None:
        """Masks of 0 and 255 leave one class, for 255 is ignored: such labels train to a fine mIoU, and to nothing."""
        names, ignored = self.data_set.names, self.data_set.ignore_index
        seen = np.flatnonzero(self.pixels_256[: len(names)]).tolist()
        if not self.frames or not self.pixels_256[ignored] or len(seen) > 1:
            return None
        if not seen:
            return (
                f"every pixel of the {self.frames} labels of data set {self.data_set.name!r} is ignored (id {ignored}); there "
                "is nothing to learn or to score: correct the labels, or `ids` and `ignore_index` in the data-set YAML"
            )
        if self.data_set.ids:  # they say what is ignored
            return None
        other = names[1 - seen[0]] if len(names) == 2 else "CLASS"
        return (
            f"the {self.frames} labels of data set {self.data_set.name!r} hold the ids {seen[0]} and {ignored} alone, and "
            f"{ignored} is ignored, so {names[seen[0]]!r} is the only class left; where {ignored} is a class, write "
            f"{_ids_line({seen[0]: names[seen[0]], ignored: other})} in the data-set YAML, where it is none "
            f"{_ids_line({seen[0]: names[seen[0]], ignored: IGNORE})}"
        )


def _begins_far(ids: Sequence[int]) -> int:
    """The place of the first id that is farther from the one before than there are ids, and than twice any distance before;
    their number where there is none. 254 is behind 0, 1, 2; of 0, 50, 100 none is, and none of Cityscapes'."""
    distances = [after - before for before, after in pairwise(ids)]
    for place in range(1, len(distances)):
        if distances[place] > max(len(ids), 2 * max(distances[:place])):
            return place + 1
    return len(ids)


def _more(count: int, what: str) -> str:
    return f"{count} more {what}{'s' if count > 1 else ''}"


def _ids_line(classes: Sequence[str] | Mapping[int, str]) -> str:
    """The key `ids` as one would type it, shortened where there are many."""
    rows = [
        f"{index}: {name}" for index, name in (classes.items() if isinstance(classes, Mapping) else enumerate(classes))
    ]
    shown = rows if len(rows) <= 8 else [*rows[:4], "...", rows[-1]]
    return f"`ids: {{{', '.join(shown)}}}`"


def lint_labels(
    samples: Samples,
    data_set: DataSet,
    limit: int | None = None,
    hashes: FrameHashes | None = None,
    outlines: bool = False,
) -> LabelReport:
    """Reads every frame, or `limit` frames spread evenly over the split, and reports; `LabelReport.check` refuses.

    Args:
        hashes: takes a hash of each image that can be read.
        outlines: looks at the outlines that labels are drawn from, too, where they are.
    """
    report = LabelReport(data_set, len(samples))
    for index in spread(len(samples), limit):
        look = _look_at(samples, index)
        if hashes is not None and look.image_HW3 is not None:
            hashes.add(samples.names[index], look.image_HW3)
        for error in look.faults:
            report.add_fault(error)
        if look.label_HW is not None:
            report.add(look.label_HW, samples.origin(index))
        if look.things is not None:
            report.things += int((~look.things.crowd_I).sum())
        if outlines and look.outlines is not None and not look.faults:
            report.outlines = report.outlines or OutlineReport(remarks=_remarks(samples))
            report.outlines.add(samples.names[index], look.outlines)
    return report


def _look_at(samples: Samples, index: int) -> Look:
    if isinstance(samples, FolderSamples):
        return samples.look_at(index)
    try:
        sample = samples[index]
        return Look(sample.image_HW3, sample.label_HW, things=sample.things)
    except InputError as error:
        return Look(faults=[error])


def _remarks(samples: Samples) -> list[str]:
    return samples.remarks() if isinstance(samples, FolderSamples) else []


def lint_split(
    data_set: DataSet, split: str, limit: int | None = None, hashes: FrameHashes | None = None
) -> LabelReport:
    """`lint_labels` of a split by name, with its outlines. Images without labels, and folders that can't be read, are problems
    among others."""
    try:
        return lint_labels(open_split(data_set, split), data_set, limit, hashes, outlines=True)
    except MissingLabels as error:
        report = lint_labels(error.rest, data_set, limit, hashes)
        report.faults[InputError] = str(error), report.faults.get(InputError, ("", 0))[1] + 1
        return report
    except InputError as error:
        return LabelReport(data_set, 0, faults={InputError: (str(error), 1)})

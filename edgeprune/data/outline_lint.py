"""Lint of outlines: what is odd about the polygons, run lengths and boxes of things, which a label map does not show.

None of it keeps labels from being read. It is counted and told, with a few examples. What is kept of a frame are counts.

Shapes: H W pixels, I outlines of a frame.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.data.crossings import crosses_itself
from edgeprune.data.outlines import Outline, Outlines
from edgeprune.data.patches import Patch, in_common

LEAST_PIXELS = 16  # of a thing that a network is likely to see: a patch has 196 and more
OUTSIDE_PX = 1.0  # tools round
AREAS_APART = 2.0  # times: the area that a file says, and the pixels that are covered
ALIKE = 0.9  # intersection over union of two outlines that are one
EXAMPLES = 3
# by rule, what is said of the outlines that break it and what there is to do
RULES: dict[str, tuple[str, str]] = {
    "empty": ("cover no pixel of their image", "they are no things to training; delete them, or outline them again"),
    "small": (
        f"cover fewer than {LEAST_PIXELS} pixels",
        "the input of a network may have none of them left; delete them, or mark them `iscrowd` where they are many",
    ),
    "area": (
        f"cover less than 1/{AREAS_APART:g} or more than {AREAS_APART:g} times the `area` that the file says",
        "COCO's small, medium and large go by `area`; export it as the area of the outline",
    ),
    "outside": (
        f"leave their image by more than {OUTSIDE_PX:g} pixel",
        "that part is cut off; see whether they are of another size of the image",
    ),
    "box": (
        "have a `bbox` of no area, or one that leaves the image",
        "boxes are taken from outlines here, other tools read `bbox`: export it again",
    ),
    "crossing": ("cross themselves", "what is inside twice counts as outside; outline them again"),
    "number": (
        "have a `track_id` or `id` that is no whole number, or that of another of their frame",
        "things are told apart by it; number them",
    ),
    "duplicate": (
        f"cover what another of their class covers (IoU of {ALIKE:g} or more)",
        "one thing is learnt and scored as two; keep one of them",
    ),
    "hidden": (
        "lie wholly under those that are drawn after them",
        "no pixel of them is left in the label map; see whether `area` of those before them is right, or delete them",
    ),
}


@dataclass(frozen=True)
class Drawn:
    """An outline as it was drawn: its pixels, the window that they are in, and how many of them it is left at the end."""

    outline: Outline
    pixels: int
    window: tuple[slice, slice]
    left: int


@dataclass
class OutlineReport:
    """What is odd about the outlines of the frames that were read.

    Attributes:
        outlines: of all frames.
        things_256: of these the things, by class; regions of many are counted in `crowds`.
        counts: by rule the outlines that break it; in `examples` the first of them.
        remarks: on a file of all annotations, a line each.
    """

    outlines: int = 0
    things_256: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    crowds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One for each rule that is broken, with how often and where first; and `remarks`."""
        found = []
        for rule, (what, remedy) in RULES.items():
            if count := self.counts[rule]:
                shown = "; ".join(self.examples[rule]) + ("; ..." if count > EXAMPLES else "")
                found.append(f"outlines that {what}: {count:,} of {self.outlines:,} ({shown}); {remedy}")
        return found + self.remarks

    def as_json(self) -> dict[str, Any]:
        """The counts, and what `lines` says."""
        found = [{"rule": rule, "count": self.counts[rule], "examples": self.examples[rule]} for rule in self.examples]
        totals = {"outlines": self.outlines, "things": int(self.things_256.sum()), "crowds": self.crowds}
        return totals | {"found": found, "lines": self.lines()}

    def add(self, frame: str, outlines: Outlines) -> None:
        """Looks at the outlines of a frame.

        Args:
            frame: what it is called, for examples.

        Raises:
            InputError: see `Outlines.patches`.
        """
        drawn = _draw(outlines)
        alike = list(_alike(drawn, outlines.size))
        first, again = {pair[0] for pair in alike}, {pair[1] for pair in alike}
        numbers: set[int | None] = {None}
        for number, each in enumerate(drawn):
            outline = each.outline
            self.outlines += 1
            if outline.thing:
                self.crowds += outline.crowd
                self.things_256[outline.class_id] += not outline.crowd
            broken = [*_of_one(each, outlines.size)]
            if outline.thing and outline.identity in numbers:
                broken.append("number")
            if outline.thing:
                numbers.add(outline.identity)
            if number in again:
                broken.append("duplicate")
            elif each.pixels and not each.left and number not in first:
                broken.append("hidden")
            for rule in broken:
                self.counts[rule] += 1
                examples = self.examples.setdefault(rule, [])
                if len(examples) < EXAMPLES:
                    examples.append(f"{frame}, {outline.name}")


def _draw(outlines: Outlines) -> list[Drawn]:
    """Each outline, drawn by its number into one map of the frame."""
    owner_HW = np.full(outlines.size, -1, np.int16 if len(outlines.each) < 1 << 15 else np.int32)
    seen: list[tuple[Outline, int, tuple[slice, slice]]] = []
    for number, (outline, patch) in enumerate(outlines.patches()):
        if patch is None:
            seen.append((outline, 0, (slice(0, 0), slice(0, 0))))
            continue
        height, width = patch.inside_hw.shape
        window = slice(patch.top, patch.top + height), slice(patch.left, patch.left + width)
        owner_HW[window][patch.inside_hw] = number
        seen.append((outline, patch.pixels, window))
    return [
        Drawn(outline, pixels, window, int(np.count_nonzero(owner_HW[window] == number)))
        for number, (outline, pixels, window) in enumerate(seen)
    ]


def _of_one(drawn: Drawn, size: tuple[int, int]) -> Iterator[str]:
    """The rules that an outline breaks by itself."""
    outline, pixels = drawn.outline, drawn.pixels
    if not pixels:
        yield "empty"
    elif pixels < LEAST_PIXELS:
        yield "small"
    elif outline.area is not None and not 1 / AREAS_APART <= pixels / max(outline.area, 1e-9) <= AREAS_APART:
        yield "area"
    if any(_leaves(part.min(axis=0), part.max(axis=0), size) for part in outline.parts):
        yield "outside"
    if outline.box_4 is not None:
        left, top, width, height = outline.box_4
        if not (width > 0 and height > 0) or _leaves((left, top), (left + width, top + height), size):
            yield "box"
    if any(crosses_itself(part) for part in outline.parts):
        yield "crossing"


def _leaves(least_xy: Iterable[float], most_xy: Iterable[float], size: tuple[int, int]) -> bool:
    """Whether what lies between two points lies outside an image (H, W) in part."""
    (left, top), (right, bottom) = least_xy, most_xy
    return not (min(left, top) >= -OUTSIDE_PX and right <= size[1] + OUTSIDE_PX and bottom <= size[0] + OUTSIDE_PX)


def _alike(drawn: Sequence[Drawn], size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The numbers of outlines of one class that cover the same, by ALIKE, each with one before it; patches are computed anew
    for the few whose pixels and windows are alike."""
    pixels_I = np.array([each.pixels for each in drawn], np.int64)
    class_I = np.array([each.outline.class_id for each in drawn], np.int64)
    ends_4I = np.array([[*_ends(each.window[0]), *_ends(each.window[1])] for each in drawn], np.int64).reshape(-1, 4).T
    patches: dict[int, Patch | None] = {}
    for number in range(1, len(drawn)):
        if not pixels_I[number]:
            continue
        top_n, bottom_n, left_n, right_n = ends_4I[:, :number]
        top, bottom, left, right = ends_4I[:, number]
        shared_n = np.maximum(np.minimum(bottom_n, bottom) - np.maximum(top_n, top), 0)
        shared_n *= np.maximum(np.minimum(right_n, right) - np.maximum(left_n, left), 0)
        enough_n = np.minimum(np.minimum(pixels_I[:number], pixels_I[number]), shared_n) >= ALIKE * np.maximum(
            pixels_I[:number], pixels_I[number]
        )
        for other in np.flatnonzero(enough_n & (class_I[:number] == class_I[number])).tolist():
            for index in (number, other):
                if index not in patches:
                    patches[index] = drawn[index].outline.patch(*size)
            if _overlap(patches[number], patches[other]) >= ALIKE:
                yield other, number
                break


def _ends(window: slice) -> tuple[int, int]:
    return window.start, window.stop


def _overlap(one: Patch | None, other: Patch | None) -> float:
    """Intersection over union."""
    if one is None or other is None:
        return 0.0
    both = in_common(one, other)
    return both / (one.pixels + other.pixels - both)

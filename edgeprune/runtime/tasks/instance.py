"""Instances: what was found, thing by thing. Minimal, for builds: the runtime's own comes in its place.

Array shapes: T things of an answer, h w pixels of its masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeprune.bundle import Manifest
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.tasks import result
from edgeprune.runtime.tasks.task import Agreement, Task

Bool = npt.NDArray[np.bool_]
THRESHOLD = 0.5  # the score of a thing that counts
TOLERANCE = 0.1  # of a score
LEAST_OVERLAP = 0.9  # intersection over union of two masks of one thing
INSIDE = 128  # the first level of a mask that is inside


class Instance(Task):
    """Things of a bundle."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest

    def result(self, facts: result.FrameFacts, outputs: Outputs) -> "Result":
        found = zip(outputs["classes"], outputs["scores"], strict=True)
        names = self.manifest.names
        things = (Thing(int(each), names[each], float(score)) for each, score in found if score >= THRESHOLD)
        return Result(facts, tuple(things))

    @staticmethod
    def agreement(expected: Outputs, got: Outputs, sure: Bool | None = None) -> Agreement:
        """Things of `expected` above the threshold, each with one of `got` of its class, score and mask; those of `got` clearly
        above it that are none of them count too. `sure`: pixels (h, w) that masks are compared in."""
        ours_Thw, theirs_Shw = (_inside(each["masks"], sure) for each in (expected, got))
        wanted = [each for each in np.flatnonzero(expected["scores"] > THRESHOLD) if ours_Thw[each].any()]
        free = {int(each) for each in range(len(theirs_Shw)) if theirs_Shw[each].any()}
        equal = 0
        for index in wanted:
            like = {
                each: _overlap(ours_Thw[index], theirs_Shw[each])
                for each in free
                if got["classes"][each] == expected["classes"][index]
                and abs(float(got["scores"][each]) - float(expected["scores"][index])) <= TOLERANCE
            }
            best = max(like, key=like.__getitem__, default=None)
            if best is not None and like[best] >= LEAST_OVERLAP:
                equal += 1
                free.remove(best)
        surplus = sum(float(got["scores"][each]) > THRESHOLD + TOLERANCE for each in free)
        return Agreement(equal, len(wanted) + surplus)


@dataclass(frozen=True)
class Thing:
    """One of them."""

    class_id: int
    name: str
    score: float


@dataclass(frozen=True, eq=False)
class Result(result.Result):
    """A frame and its things."""

    facts: result.FrameFacts
    things: tuple[Thing, ...]

    @property
    def labels(self) -> UInt8:
        raise NotImplementedError

    @property
    def palette(self) -> Sequence[tuple[int, int, int]]:
        raise NotImplementedError

    def areas(self) -> dict[str, float]:
        raise NotImplementedError

    def overlay(self, tokens: bool = False) -> UInt8:
        raise NotImplementedError


def _inside(masks_Thw: npt.NDArray[np.uint8], sure: Bool | None) -> Bool:
    inside_Thw = masks_Thw >= INSIDE
    return inside_Thw if sure is None else inside_Thw & sure


def _overlap(one_hw: Bool, other_hw: Bool) -> float:
    return int((one_hw & other_hw).sum()) / max(1, int((one_hw | other_hw).sum()))

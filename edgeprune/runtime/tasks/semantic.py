"""Semantic segmentation: a class per pixel.

Array shapes: label_hw (uint8 class ids) and confidence_hw (uint8) as the graphs give them, label_HW and confidence_HW (the same
at the frame's own pixels), picture_HW3 (uint8 RGB).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from edgeprune.bundle import Manifest
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.tasks import result
from edgeprune.runtime.tasks.overlay import Overlay
from edgeprune.runtime.tasks.task import Agreement, Task
from edgeprune.runtime.tasks.token_lines import draw_tokens

NO_CLASS = np.uint8(255)  # the label of a pixel outside the region


class Semantic(Task):
    """Results of a bundle's label maps.

    Attributes:
        fit: from the labels' resolution back to a frame's.
        inside_hw: True for the pixels of the graphs' label maps that lie inside the bundle's region; None: all do.
        names: of the classes, by their ids.
        palette: colours by class id, RGB.
        drawing: draws them.
    """

    def __init__(self, manifest: Manifest):
        self.fit, self.inside_hw = Preprocess.of(manifest), manifest.inside_hw
        self.names, self.palette = manifest.names, manifest.palette
        self.drawing = Overlay(manifest.names, manifest.palette)

    def result(self, facts: result.FrameFacts, outputs: Outputs) -> "Result":
        """The result of a frame; but for the region nothing of it is computed yet."""
        label_hw, confidence_hw = outputs["labels"], outputs.get("confidence")
        if self.inside_hw is not None:
            label_hw = np.where(self.inside_hw, label_hw, NO_CLASS)
            confidence_hw = None if confidence_hw is None else confidence_hw * self.inside_hw
        return Result(facts, label_hw, confidence_hw, self)

    @staticmethod
    def agreement(expected: Outputs, got: Outputs, sure: npt.NDArray[np.bool_] | None = None) -> Agreement:
        """Pixels of equal classes."""
        equal_hw = expected["labels"] == got["labels"]
        counted = equal_hw if sure is None else equal_hw[sure]
        return Agreement(int(counted.sum()), counted.size)


@dataclass(frozen=True, eq=False)
class Result(result.Result):
    """A frame and its classes.

    Attributes:
        label_hw: the labels at the resolution of the graphs; 255 outside the region.
        confidence_hw: their confidence, 0 outside the region; None where the bundle was built without.
        task: what it came from.
    """

    facts: result.FrameFacts
    label_hw: UInt8
    confidence_hw: UInt8 | None
    task: Semantic

    @cached_property
    def labels(self) -> UInt8:
        """label_HW; mapped back from the model's input when it is first asked for."""
        return self.task.fit.back(self.label_hw, *self.frame.image_HW3.shape[:2])

    @cached_property
    def confidence(self) -> UInt8 | None:
        """confidence_HW: p1 - p2 of each pixel's two most probable classes, in steps of 1/255."""
        if self.confidence_hw is None:
            return None
        return self.task.fit.back(self.confidence_hw, *self.frame.image_HW3.shape[:2])

    @property
    def mean_confidence(self) -> float | None:
        if self.confidence_hw is None:
            return None
        top, left, height, width = self.task.fit.placement(*self.frame.image_HW3.shape[:2])
        stride = self.task.fit.height // self.confidence_hw.shape[0]
        covered = np.s_[top // stride : -(-(top + height) // stride), left // stride : -(-(left + width) // stride)]
        counted = self.confidence_hw[covered]
        if self.task.inside_hw is not None:
            counted = counted[self.task.inside_hw[covered]]
        return round(float(counted.mean()) / 255, 4) if counted.size else None

    @property
    def palette(self) -> Sequence[tuple[int, int, int]]:
        return self.task.palette

    def areas(self) -> dict[str, float]:
        names = self.task.names
        counts = np.bincount(self.labels.reshape(-1), minlength=len(names))[: len(names)]
        shares = counts / max(1, int(counts.sum()))
        return dict(zip(names, shares.tolist(), strict=True))

    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        """picture_HW3: the frame, its classes in colour, a status line above and a legend below; a new image."""
        token_map, fit = self.facts.token_map, self.task.fit
        layers = [partial(draw_tokens, tokens=token_map, fit=fit)] if tokens and token_map else []
        return self.task.drawing.draw(self.frame.image_HW3, self.labels, status or self.status, layers)

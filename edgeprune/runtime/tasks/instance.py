"""Instance segmentation: the things of a frame, each with a class, a score, a box and a mask.

Array shapes: T things that the graphs give, I J some of them, h w pixels of their masks, P all of those, H W pixels of the
frame; label_HW (uint8 class ids), picture_HW3 (uint8 RGB).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.bundle import Manifest
from edgeprune.data.instances import Mask
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.tasks import result
from edgeprune.runtime.tasks.outlines import draw_things
from edgeprune.runtime.tasks.overlay import Layer, Overlay
from edgeprune.runtime.tasks.task import Agreement, Task
from edgeprune.runtime.tasks.things import CLASSES, INSIDE, MASKS, OUTPUTS, SCORES, Thing, read_things
from edgeprune.runtime.tasks.token_lines import draw_tokens

LEAST_SCORE = 0.5  # of what is a thing
APART = 0.1  # that two scores of the same thing may be
SAME_IOU = 0.9  # of two masks of the same thing
NO_CLASS = 255  # the label of a pixel that no thing covers


class Instance(Task):
    """Results of a bundle's things.

    Attributes:
        fit: from the graphs' input back to a frame.
        inside_hw: True for the pixels of masks that lie inside the bundle's region; None: all do.
        names: of the classes, by their ids.
        palette: colours by class id, RGB.
        drawing: draws status line and legend.

    Raises:
        InputError: graphs that give something else.
    """

    def __init__(self, manifest: Manifest):
        if missing := [name for name in OUTPUTS if name not in manifest.outputs]:
            raise InputError(
                f"the graphs give {', '.join(manifest.outputs)}, no {' and no '.join(missing)}, which the task instance reads; "
                "build the bundle again"
            )
        self.fit, self.inside_hw = Preprocess.of(manifest), manifest.inside_hw
        self.names, self.palette = manifest.names, manifest.palette
        self.drawing = Overlay(manifest.names, manifest.palette)
        self._counted = ((0, 0), 0)

    def result(self, facts: result.FrameFacts, outputs: Outputs) -> "Result":
        """The result of a frame; nothing of it is computed yet."""
        return Result(facts, outputs, self)

    def things(self, outputs: Outputs, height: int, width: int, least: float = LEAST_SCORE) -> tuple[Thing, ...]:
        """What a graph found in a frame of height x width, with a score of `least` or more, best score first."""
        return read_things(outputs, self.names, self.fit, (height, width), least, self.inside_hw)

    def counted_pixels(self, height: int, width: int) -> int:
        """Of a frame's pixels those that things may have: all, or those inside the region."""
        if self.inside_hw is None:
            return height * width
        size, pixels = self._counted
        if size != (height, width):
            pixels = int(np.count_nonzero(self.fit.back(self.inside_hw.astype(np.uint8), height, width)))
            self._counted = ((height, width), pixels)
        return pixels

    @staticmethod
    def agreement(expected: Outputs, got: Outputs, sure: Mask | None = None) -> Agreement:
        """Things of `expected` that `got` has too: of the same class, with a mask of the same pixels but for a tenth of them
        (IoU SAME_IOU at the graphs' resolution) and a score within APART; each is taken once, in whatever order the two have
        them.

        A thing of `got` that is clearly one (its score is APART above LEAST_SCORE) and that `expected` has not counts as one
        that differs. Near LEAST_SCORE rounding alone decides which things there are.

        Args:
            sure: the pixels of masks that count (h, w), such as those of a region; None: all.
        """
        if not (np.isfinite(expected[SCORES]).all() and np.isfinite(got[SCORES]).all()):
            return Agreement(0, 1)  # such graphs find nothing, which is no agreement
        ours_I, mask_IP = _masks(expected, LEAST_SCORE, sure)
        theirs_J, mask_JP = _masks(got, LEAST_SCORE - APART, sure)
        apart_IJ = np.abs(expected[SCORES][ours_I][:, None] - got[SCORES][theirs_J])
        same_IJ = expected[CLASSES][ours_I][:, None] == got[CLASSES][theirs_J]
        iou_IJ = np.where(same_IJ & (apart_IJ <= APART), _iou(mask_IP, mask_JP), 0.0)
        free_J = np.ones(len(theirs_J), np.bool_)
        equal = 0
        for iou_J, apart_J in zip(iou_IJ, apart_IJ, strict=True):
            fitting_M = np.flatnonzero(free_J & (iou_J >= SAME_IOU))
            if len(fitting_M):
                best = fitting_M[np.lexsort((apart_J[fitting_M], -iou_J[fitting_M]))[0]]
                free_J[best] = False
                equal += 1
        more = int((free_J & (got[SCORES][theirs_J] > LEAST_SCORE + APART)).sum())
        return Agreement(equal, len(ours_I) + more)

    @staticmethod
    def find_things(
        outputs: Outputs,
        names: Sequence[str],
        fit: Preprocess,
        size: tuple[int, int],
        inside_hw: Mask | None = None,
    ) -> tuple[Thing, ...]:
        return read_things(outputs, names, fit, size, LEAST_SCORE, inside_hw)


@dataclass(frozen=True, eq=False)
class Result(result.Result):
    """A frame and its things.

    Attributes:
        outputs: what the graphs gave.
        task: what it came from.
    """

    facts: result.FrameFacts
    outputs: Outputs
    task: Instance

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """Those with a score of LEAST_SCORE or more, best score first. Masks are made when they are asked for."""
        return self.at_least(LEAST_SCORE)

    def at_least(self, score: float) -> tuple[Thing, ...]:
        """The things with another least score, 0 to 1."""
        return self.task.things(self.outputs, *self._size, score)

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        height, width = self.frame.image_HW3.shape[:2]
        return height, width

    @property
    def status(self) -> str:
        count = len(self.things)
        return f"{super().status}  {count} thing{'' if count == 1 else 's'}"

    @cached_property
    def labels(self) -> UInt8:
        """label_HW: where things overlap, the class of the one with the best score; 255 where there is none."""
        label_HW = np.full(self._size, NO_CLASS, np.uint8)
        for thing in reversed(self.things):
            thing.part.within(label_HW)[thing.part.mask_cd] = thing.class_id
        return label_HW

    @property
    def palette(self) -> Sequence[tuple[int, int, int]]:
        return self.task.palette

    def counts(self) -> dict[str, int]:
        counted = Counter(thing.class_id for thing in self.things)
        return {self.task.names[class_id]: counted[class_id] for class_id in sorted(counted)}

    def areas(self) -> dict[str, float]:
        covered: dict[int, npt.NDArray[np.bool_]] = {}
        for thing in self.things:
            mask_HW = covered.setdefault(thing.class_id, np.zeros(self._size, np.bool_))
            thing.part.within(mask_HW)[thing.part.mask_cd] = True
        pixels = max(1, self.task.counted_pixels(*self._size))
        return {
            name: min(1.0, np.count_nonzero(covered[class_id]) / pixels) if class_id in covered else 0.0
            for class_id, name in enumerate(self.task.names)
        }

    def to_json(self, masks: bool = True) -> dict[str, Any]:
        """The areas, how many things of each class there are, the frame's height and width, and each thing: its class, its
        score, its box in pixels of the frame, and with `masks` its run lengths as COCO has them."""
        size = list(self._size)
        things = []
        for thing in self.things:
            said: dict[str, Any] = {"class": thing.class_id, "name": thing.name, "score": round(thing.score, 4)}
            said["box"] = [round(place, 1) for place in thing.box]
            things.append(said | ({"mask": {"size": size, "counts": thing.runs}} if masks else {}))
        return super().to_json(masks) | {"counts": self.counts(), "size": size, "things": things}

    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        """picture_HW3: the frame with its things outlined and named, a status line above and a legend below; a new image."""
        token_map, fit = self.facts.token_map, self.task.fit
        layers: list[Layer] = [partial(draw_tokens, tokens=token_map, fit=fit)] if tokens and token_map else []
        layout = self.task.drawing.layout(*self._size)
        layers.append(partial(draw_things, things=self.things, palette=self.task.palette, layout=layout))
        return self.task.drawing.draw_over(self.frame.image_HW3, status or self.status, layers)


def _masks(outputs: Outputs, least: float, sure: Mask | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The places of the things of that score that have a pixel, best score first, and which pixels, (I, P): ones and zeros."""
    place_I = np.flatnonzero(outputs[SCORES] >= least)
    place_I = place_I[np.argsort(-outputs[SCORES][place_I], kind="stable")]
    mask_Ihw = outputs[MASKS][place_I] >= INSIDE
    if sure is not None:
        mask_Ihw = mask_Ihw & sure
    some_I = mask_Ihw.any((1, 2))
    pixels = mask_Ihw.shape[1] * mask_Ihw.shape[2]
    return place_I[some_I], mask_Ihw[some_I].reshape(-1, pixels).astype(np.float32)


def _iou(mask_IP: npt.NDArray[np.float32], mask_JP: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Intersection over union of every two masks, (I, J); counts of pixels are exact in 32 bits."""
    both_IJ = (mask_IP @ mask_JP.T).astype(np.float64)
    either_IJ = mask_IP.sum(1)[:, None] + mask_JP.sum(1) - both_IJ
    iou_IJ: npt.NDArray[np.float64] = both_IJ / np.maximum(either_IJ, 1)
    return iou_IJ

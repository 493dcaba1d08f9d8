"""Answers of graphs of the task `instance`, drawn by hand, and a task that reads them."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from edgeprune.bundle.manifest import Manifest
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.tasks import FrameFacts
from edgeprune.runtime.tasks.instance import Instance, Result

NAMES, PALETTE = ("road", "car", "person"), [(150, 90, 150), (0, 0, 142), (255, 60, 90)]
ROAD, CAR, PERSON = range(3)
Drawn = tuple[int, float, np.ndarray]  # class, score, and where its mask is (h, w), or its levels


def task(height: int, width: int, stride: int = 4, region: Sequence[str] | None = None, **changes: Any) -> Instance:
    """Of an input of height x width, whose masks have a pixel for stride x stride; `region`: rows of text."""
    of_input = {
        "height": height,
        "width": width,
        "label_height": height // stride,
        "label_width": width // stride,
        "region": None if region is None else list(region),
    }
    return Instance(_manifest().model_copy(update=of_input | changes))


@cache
def _manifest() -> Manifest:
    """What the task reads of one; no bundle has it."""
    read: dict[str, Any] = {
        "task": "instance",
        "outputs": ["classes", "scores", "boxes", "masks"],
        "target": RuntimeSpec(name="test", engine="onnxruntime"),
        "preprocess": "letterbox",
        "names": list(NAMES),
        "palette": PALETTE,
    }
    return Manifest.model_construct(**read)


def answer(things: Sequence[Drawn], size: tuple[int, int] = (8, 12)) -> dict[str, np.ndarray]:
    """What a graph gives that finds these, in this order; boxes are those around their masks. `size`: of masks, where there is
    no thing."""
    masks = [np.asarray(mask) for _, _, mask in things]
    levels = [mask if mask.dtype == np.uint8 else 255 * mask.astype(np.uint8) for mask in masks]
    boxes = [_box(level >= 128) for level in levels]
    return {
        "classes": np.array([class_id for class_id, _, _ in things], np.uint8),
        "scores": np.array([score for _, score, _ in things], np.float32),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "masks": np.array(levels, np.uint8).reshape(-1, *(levels[0].shape if levels else size)),
    }


def _box(mask_hw: np.ndarray) -> tuple[float, ...]:
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0)
    height, width = mask_hw.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def mask(rows: slice, columns: slice, size: tuple[int, int] = (8, 12)) -> np.ndarray:
    """A rectangle."""
    mask_hw = np.zeros(size, bool)
    mask_hw[rows, columns] = True
    return mask_hw


def result(reading: Instance, outputs: dict[str, np.ndarray], height: int, width: int, grey: int = 100) -> Result:
    """Of a grey frame."""
    frame = Frame(0, np.full((height, width, 3), grey, np.uint8), 0, "a.png")
    return reading.result(FrameFacts(frame, "full", "full", 24, 1.0, 10.0, 0, 10**6, 0.1, 0.2, 0.3, 0.4), outputs)

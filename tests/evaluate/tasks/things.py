"""Frames with things, what is found in them, and what pycocotools says of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.instances import Instances, Mask, box_of

H, W = SIZE = (160, 240)
CAR, PERSON = 1, 2
STREET = StreetSplit(seed=0, frames=1)
DATA = DataSet(name="things", train=STREET, val=STREET, names=["background", "car", "person"])


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    mask_HW = np.zeros(size, np.bool_)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


def oval(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    y, x = np.ogrid[: size[0], : size[1]]
    down, across = (2 * y + 1 - top - bottom) / (bottom - top), (2 * x + 1 - left - right) / (right - left)
    inside_HW: Mask = down**2 + across**2 <= 1
    return inside_HW


class Target(NamedTuple):
    class_id: int
    mask_HW: Mask
    crowd: bool = False


class Found(NamedTuple):
    class_id: int
    score: float
    mask_HW: Mask


FRAMES: list[tuple[list[Target], list[Found]]] = [
    (  # large, medium and small; found well, badly, twice with one score, and as another class
        [
            Target(CAR, oval(5, 5, 125, 135)),
            Target(CAR, rectangle(130, 10, 155, 40)),
            Target(PERSON, oval(20, 150, 100, 200)),
            Target(PERSON, rectangle(110, 150, 135, 175)),
        ],
        [
            Found(CAR, 0.9, oval(8, 8, 128, 132)),
            Found(CAR, 0.9, oval(10, 10, 120, 120)),
            Found(CAR, 0.8, rectangle(132, 12, 156, 42)),
            Found(PERSON, 0.75, oval(24, 155, 104, 200)),
            Found(PERSON, 0.6, rectangle(110, 150, 135, 163)),
            Found(PERSON, 0.55, oval(5, 5, 125, 135)),
            Found(CAR, 0.5, oval(20, 150, 100, 200)),
        ],
    ),
    (  # a crowd: two are found in it, which count for nothing, and one a quarter in it, which is wrong
        [Target(PERSON, rectangle(0, 0, 70, 240), crowd=True), Target(PERSON, rectangle(80, 100, 150, 130))],
        [
            Found(PERSON, 0.95, rectangle(10, 10, 60, 40)),
            Found(PERSON, 0.85, oval(20, 60, 65, 90)),
            Found(PERSON, 0.5, oval(80, 100, 150, 130)),  # a mask of 79% of its box
            Found(CAR, 0.5, rectangle(80, 10, 110, 50)),
            Found(PERSON, 0.3, rectangle(60, 200, 100, 230)),
        ],
    ),
    (  # an empty frame; the second is small by its mask and of medium size by its box
        [],
        [
            Found(PERSON, 0.5, rectangle(10, 10, 50, 50)),
            Found(PERSON, 0.7, oval(60, 60, 96, 94)),
            Found(CAR, 0.3, oval(0, 0, 30, 30)),
        ],
    ),
    ([Target(CAR, oval(40, 40, 100, 120))], []),  # nothing is found
    (  # of two with one score the first is taken, where it is good enough
        [Target(CAR, rectangle(20, 20, 80, 100))],
        [Found(CAR, 0.4, rectangle(20, 20, 80, 70)), Found(CAR, 0.4, rectangle(20, 20, 80, 96))],
    ),
    ([], []),
]

# What pycocotools 2.0.11 says of FRAMES: `by_pycocotools`, which `test_pycocotools_says_the_same` runs where it is installed.
EXPECTED: dict[str, float] = {
    "mask_ap": 0.38375530410183867,
    "mask_ap50": 0.6513201320132012,
    "mask_ap75": 0.49792550683639786,
    "mask_ap_small": 0.325,
    "mask_ap_medium": 0.3946782178217822,
    "mask_ap_large": 0.8999999999999999,
    "mask_car": 0.42454031117397445,
    "mask_person": 0.342970297029703,
    "box_ap": 0.4003889674681753,
    "box_ap50": 0.6513201320132012,
    "box_ap75": 0.49792550683639786,
    "box_ap_small": 0.3499999999999999,
    "box_ap_medium": 0.3869224422442244,
    "box_ap_large": 0.8999999999999999,
    "box_car": 0.42454031117397445,
    "box_person": 0.37623762376237624,
}


def sample_of(truth: Sequence[Target], size: tuple[int, int] = SIZE) -> Sample:
    classes, masks, crowd = (
        [each.class_id for each in truth],
        [each.mask_HW for each in truth],
        [each.crowd for each in truth],
    )
    things = Instances.of(classes, masks, size, crowd)
    return Sample("frame", np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), things)


def outputs_of(found: Sequence[Found], size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """As graphs answer whose input is filled by the frame, with masks as fine as it is."""
    boxes = [box_of(each.mask_HW) for each in found]
    height, width = size
    masks = [255 * each.mask_HW.astype(np.uint8) for each in found]
    return {
        "classes": np.array([each.class_id for each in found], np.uint8),
        "scores": np.array([each.score for each in found], np.float32),
        "boxes": (np.array(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]).astype(np.float32),
        "masks": np.stack(masks) if masks else np.zeros((0, *size), np.uint8),
    }

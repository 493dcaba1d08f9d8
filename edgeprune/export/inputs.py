"""What a build starts from: a checkpoint, its calibration, its dense reference; and the frames for parity.

Shapes: F frames, H W pixels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeprune import street as synthetic
from edgeprune.base.errors import InputError
from edgeprune.base.reading import shipped
from edgeprune.data import open_split, spread
from edgeprune.data.datasets import load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.weight_files import read_safetensors, weights_id
from edgeprune.quantize.calib import Calib, read_calib
from edgeprune.quantize.loading import read_card

logger = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]
PARITY_FRAMES = 16
STREET_SEED = 970_000_000  # scenes that no split of the street data set reaches


@dataclass(frozen=True)
class BuildInputs:
    """The files that a build reads.

    Attributes:
        checkpoint: of the model.
        calib: its calibration, where there is one.
        reference: the checkpoint of the dense FP32 model that speed is compared with; None: the model's own weights.
        size: (height, width) where the input is not to be the checkpoint's own.
        confidence: whether graphs give a confidence map beside the labels.
        memory: whether there are graphs that remember the frames before.
    """

    checkpoint: Path
    calib: Calib | None
    reference: Path | None
    size: tuple[int, int] | None = None
    confidence: bool = False
    memory: bool = False


def find_inputs(
    checkpoint: Path, calib: Path | None, reference: Path | None, size: tuple[int, int] | None = None
) -> BuildInputs:
    """The calibration and the dense reference that belong to a checkpoint: beside it, else the shipped calibration.

    Raises:
        InputError: a path that was given isn't there.
    """
    sibling = checkpoint.with_name("reference.safetensors")
    if reference is None and sibling.is_file():
        reference = sibling
    return BuildInputs(checkpoint, calibration_of(checkpoint, calib), reference, size)


def calibration_of(checkpoint: Path, calib: Path | None = None) -> Calib | None:
    """The calibration that is named, else that which lies beside a checkpoint, else the shipped one of its name, where that is
    of its weights; None where there is none.

    Raises:
        InputError: what is named or lies beside it is none, or of other weights, whose thresholds would choose any tokens.
    """
    name = read_card(checkpoint).name
    beside, of_name = checkpoint.with_name(f"calib-{checkpoint.stem}.yaml"), shipped("calib") / f"{name}.yaml"
    path = calib or next((place for place in (beside, of_name) if place.is_file()), None)
    if path is None:
        return None
    found = read_calib(path)
    if found.weights is None or found.weights == weights_id(read_safetensors(checkpoint)):
        return found
    if path == of_name and calib is None:
        logger.info(f"no calibration: {path} is of other weights than {checkpoint}")
        return None
    frames = "--camera CAMERA" if found.split is None else "--data DATA"
    raise InputError(
        f"calibration {path} is of other weights than {checkpoint}; measure one: edgeprune calibrate {checkpoint} {frames}"
    )


def frames_for_parity(calib: Calib | None, preprocess: Preprocess) -> tuple[UInt8, str]:
    """16 frames (F, H, W, 3): calibration frames where the data set is at hand, else scenes of the street; never noise."""
    if calib is not None and calib.split is not None:
        try:
            split = open_split(load_data_set(calib.data), calib.split)
        except InputError:
            split = None  # a clone without the data set builds all the same, on scenes of the street
        if split is not None and len(split) >= PARITY_FRAMES:
            chosen = spread(len(split), PARITY_FRAMES)
            images = [preprocess.fit(split[index].image_HW3) for index in chosen]
            return np.stack(images), f"{calib.data} {calib.split}"
    size = (preprocess.height, preprocess.width)
    images = [synthetic.scene(STREET_SEED + index, *size)[0] for index in range(PARITY_FRAMES)]
    return np.stack(images), "the synthetic street"

"""What a build starts from: the checkpoint's calibration, its dense reference, the frames for parity.

Shapes: F frames or calibration frames, H W pixels, G gates.
"""

import copy
from collections.abc import Sequence
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
from edgeprune.export.int8 import fold_linears, unquantize_linears
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import Calib, read_calib
from edgeprune.quantize.loading import load, read_card

UInt8 = npt.NDArray[np.uint8]
PARITY_FRAMES = 16
STREET_SEED = 970_000_000  # scenes that no split of the street data set reaches


@dataclass
class Sources:
    """What a build starts from. `size`: (height, width) where the input is not to be the checkpoint's own."""

    checkpoint: Path
    calib: Calib | None
    reference: Path | None
    size: tuple[int, int] | None = None


def find_sources(
    checkpoint: Path, calib: Path | None, reference: Path | None, size: tuple[int, int] | None = None
) -> Sources:
    """The calibration and the dense reference that belong to a checkpoint: beside it, else the shipped calibration.

    Raises:
        InputError: a path that was given isn't there.
    """
    name = read_card(checkpoint).name
    places = [checkpoint.with_name(f"calib-{checkpoint.stem}.yaml"), shipped("calib") / f"{name}.yaml"]
    if calib is None:
        calib = next((place for place in places if place.is_file()), None)
    sibling = checkpoint.with_name("reference.safetensors")
    if reference is None and sibling.is_file():
        reference = sibling
    return Sources(checkpoint, read_calib(calib) if calib else None, reference, size)


def frames_for_parity(calib: Calib | None, preprocess: Preprocess) -> tuple[UInt8, str]:
    """16 frames (F, H, W, 3): calibration frames where the data set is at hand, else scenes of the street; never noise."""
    if calib is not None:
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


def check_calib(calib: Calib, model: Segmenter, precisions: Sequence[str]) -> None:
    """Refuses a calibration whose numbers are not those of the model's gates."""
    gates = len(model.policy.gated)
    for precision in precisions:
        calib.thresholds_for(precision, gates)
    for precision, occupancy_FG in calib.occupancy.items():
        if any(len(occupancy_G) != gates for occupancy_G in occupancy_FG):
            raise InputError(
                f"calibration of {calib.model}: occupancy in {precision} is not of {gates} gates; calibrate again"
            )


def load_dense(sources: Sources, model: Segmenter) -> Segmenter:
    """The dense FP32 reference: its own checkpoint, or the model's own weights on every token."""
    if sources.reference is not None:
        dense, card = load(sources.reference, sources.size)
        for what in ("height", "width", "classes"):
            theirs, ours = getattr(card.model, what), getattr(model.spec, what)
            if theirs != ours:
                raise InputError(f"reference {sources.reference} has {what} {theirs}, {sources.checkpoint} {ours}")
    else:
        dense = copy.deepcopy(model)
    unquantize_linears(dense)
    return dense


def twins(model: Segmenter, precision: str, dialect: str) -> tuple[Segmenter, Segmenter]:
    """(the PyTorch model that parity compares with, the same model in the form that is exported)."""
    reference = copy.deepcopy(model)
    if precision != "int8":
        unquantize_linears(reference)
        return reference, reference
    graph = copy.deepcopy(model)
    fold_linears(graph, dialect)
    return reference, graph

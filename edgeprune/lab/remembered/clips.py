"""The frames that the study shows: of a camera, or of a data set whose val split has clips with labels; at the input's size.

Shapes: H W pixels of the input.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data import open_split
from edgeprune.data.classes import thing_classes
from edgeprune.data.clips import clips_in
from edgeprune.data.datasets import load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import UInt8
from edgeprune.evaluate.tasks.metric import check_classes
from edgeprune.lab.through_time.scores import IGNORED, Picture, picture_of
from edgeprune.runtime.cameras import open_source

LEAST_FRAMES = 3
STREET, STREET_SET = (
    "synthetic://street",
    "street",
)  # the one camera whose frames have labels, and what says which are things
SPLIT = "val"


@dataclass
class Clip:
    """Frames that follow each other.

    Attributes:
        images: (H, W, 3) each.
        true: labels (H, W) of each; None where a clip has none.
        things: ids of the classes that are things, where there are labels.
        pictures: where in each image the frame lies, beside which are bars.
    """

    name: str
    images: list[UInt8] = field(default_factory=list)
    true: list[UInt8 | None] = field(default_factory=list)
    things: frozenset[int] = frozenset()
    pictures: list[Picture] = field(default_factory=list)

    def show(self, image_HW3: UInt8, fit: Preprocess) -> None:
        """Adds a frame of any size."""
        self.images.append(fit.fit(image_HW3))
        self.pictures.append(picture_of(fit, image_HW3))


def read_clip(uri: str, classes: Sequence[str], fit: Preprocess, frames: int) -> Clip:
    """The first frames of a camera; those of a street have labels where `classes`, the bundle's, are the street's.

    Raises:
        InputError: there is no such camera, or there are too few frames.
    """
    street = load_data_set(STREET_SET)
    labelled = uri.startswith(STREET) and list(classes) == list(street.names)
    clip = Clip(Path(uri).name, things=thing_classes(street) if labelled else frozenset())
    with closing(open_source(uri)) as source:
        for frame in islice(source, frames):
            clip.show(frame.image_HW3, fit)
            label_HW = frame.label_HW if labelled else None
            clip.true.append(None if label_HW is None else fit.fit_label(label_HW, IGNORED))
    refuse_few(uri, clip.images)
    return clip


def read_data(name: str, bundle: Bundle, fit: Preprocess, frames: int) -> list[Clip]:
    """The first frames of each clip of a data set's val split (`data/clips.py`); what is shorter than LEAST_FRAMES is left out.

    Raises:
        InputError: there is no such data set, its classes are not the bundle's, or no clip is long enough.
    """
    data_set = load_data_set(name)
    check_classes(bundle.manifest.names, f"bundle {bundle.folder}", data_set)
    samples = open_split(data_set, SPLIT)
    found, split = clips_in(samples), f"{data_set.name}, {SPLIT}"
    refuse_few(split if len(found) == 1 else f"the longest clip of {split},", max(found, key=len, default=[]))
    clips = []
    for places in (each[:frames] for each in found if len(each) >= LEAST_FRAMES):
        called = split if len(found) == 1 else f"{split}, {samples.names[places[0]]}"
        clip = Clip(called, things=thing_classes(data_set))
        for sample in (samples[place] for place in places):
            label_HW = np.where(sample.label_HW == data_set.ignore_index, np.uint8(IGNORED), sample.label_HW)
            clip.show(sample.image_HW3, fit)
            clip.true.append(fit.fit_label(label_HW, IGNORED))
        clips.append(clip)
    return clips


def refuse_few(clip: str, given: Sequence[object]) -> None:
    """Raises InputError where nothing comes after the first frame, which every way computes whole."""
    if len(given) < LEAST_FRAMES:
        raise InputError(
            f"{clip} has {len(given)} frames, expected {LEAST_FRAMES} or more; name a clip, or a longer one"
        )

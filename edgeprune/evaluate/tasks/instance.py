"""Things, scored by COCO's average precision of masks and of boxes (`evaluate/average_precision.py`), at the frame's own pixels
whatever size a data set names for label maps: what is small and what is large is said in pixels of the frame.

Shapes: H W pixels of a frame, h w of the masks that graphs give, T things that they give, I things of a frame's targets.
"""

from collections.abc import Container, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle, Manifest
from edgeprune.data import Sample
from edgeprune.data.classes import thing_classes
from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import Instances, Mask, box_of
from edgeprune.data.polygons import encode_runs
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.average_precision import Kind, Regions, average_precision, load_library
from edgeprune.evaluate.tasks.metric import Columns, Metric, check_classes
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks.things import OUTPUTS, Thing, read_things

ABOUT_AP = (
    "AP: COCO's, the mean over classes and over the overlaps of .5 to .95 from which on a thing counts as found; APs: "
    "of things of under 32x32 pixels of the frame, APl: of over 96x96"
)


class Instance(Metric):
    """Mask AP and box AP (`InstanceScores`). Of targets and answers what lies outside the bundle's region is cut away, of the
    dense reference too."""

    figure = "mask_ap"
    columns: ClassVar[Columns] = {
        "mask_ap": ("mask AP", ".4f"),
        "mask_ap50": ("AP50", ".4f"),
        "mask_ap75": ("AP75", ".4f"),
        "mask_ap_small": ("APs", ".4f"),
        "mask_ap_medium": ("APm", ".4f"),
        "mask_ap_large": ("APl", ".4f"),
        "box_ap": ("box AP", ".4f"),
    }
    brief = ("mask_ap", "mask_ap50", "mask_ap_small", "box_ap")
    by_class = ("per_class_mask_ap", "mask AP")
    legend = ABOUT_AP
    unmeasured: ClassVar[dict[str, str]] = {
        "mask_ap_small": "APs: not measured, or no frame that was scored has a thing of under 32x32 pixels"
    }
    things = True

    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        check_classes(bundle.manifest.names, f"bundle {bundle.folder}", data_set)
        self._preprocess, self._data_set = Preprocess.of(bundle.manifest), data_set
        self._targets = Targets(self._preprocess, data_set, bundle.manifest.inside_hw)

    @staticmethod
    def check_library() -> None:
        load_library()

    @staticmethod
    def notes(data_set: DataSet) -> list[str]:
        return [ABOUT_AP]

    def look_at(self, sample: Sample, origin: str) -> None:
        try:
            self._targets.place_of(sample)
        except InputError as error:
            raise InputError(f"{origin}: {error}") from None
        self.scored_share = self._targets.scored_share

    def check(self) -> None:
        if not any((~regions.crowd_T).any() for regions in self._targets.frames):
            names = ", ".join(self._targets.classes.values())
            raise InputError(
                f"the {len(self._targets.frames)} frames of data set {self._data_set.name!r} that are scored have no thing of "
                f"{names}; score more frames, or correct `things:` in its YAML"
            )

    def scores(self) -> "InstanceScores":
        return InstanceScores(self._preprocess, self._data_set, self._targets)

    @staticmethod
    def answers(manifest: Manifest, data_set: DataSet) -> "InstanceScores":
        preprocess = Preprocess.of(manifest)
        return InstanceScores(preprocess, data_set, Targets(preprocess, data_set, manifest.inside_hw))


class Targets:
    """What there is to find in frames, kept as run lengths. A thing without a pixel is none.

    Attributes:
        classes: names of those whose things are scored, by id.
        frames: of each frame that was asked for, in the order in which they came.
        inside_hw: the bundle's region, True inside, at the resolution of the graphs' masks; None: all of the frame is scored.
    """

    def __init__(self, preprocess: Preprocess, data_set: DataSet, inside_hw: Mask | None = None):
        self.classes = {index: data_set.names[index] for index in sorted(thing_classes(data_set))}
        self.frames: list[Regions] = []
        self.inside_hw = inside_hw
        self._preprocess = preprocess
        self._last: Sample | None = None
        self._inside_px = self._all_px = 0

    @property
    def scored_share(self) -> float | None:
        """See `Metric.scored_share`."""
        return self._inside_px / self._all_px if self.inside_hw is not None and self._all_px else None

    def place_of(self, sample: Sample) -> int:
        """The place of a frame in `frames`: rows ask for the same one, one after the other, and its things are read once.

        Raises:
            InputError: the sample was read without its things.
        """
        if sample is not self._last:
            if sample.things is None:
                raise InputError(
                    f"{sample.name} has a label map and no things; score a split of `format: coco` or `yolo` (docs/data.md)"
                )
            inside_HW = None if self.inside_hw is None else self._preprocess.back(self.inside_hw, *sample.things.size)
            self.frames.append(regions_of(sample.things, self.classes, inside_HW))
            self._last = sample
            self._inside_px += 0 if inside_HW is None else int(inside_HW.sum())
            self._all_px += sample.label_HW.size
        return len(self.frames) - 1


class InstanceScores:
    """What one row of graphs, or a model in training, answers, against the things of the frames. A frame takes some tens
    of kB, whatever its size.

    Args:
        targets: shared with other rows; of its own, and of whole frames, by default.
    """

    def __init__(self, preprocess: Preprocess, data_set: DataSet, targets: Targets | None = None):
        load_library()  # before minutes of inference
        self._preprocess, self._names = preprocess, data_set.names
        self._targets = targets or Targets(preprocess, data_set)
        self._places: list[int] = []
        self._found: list[Regions] = []

    def add(self, outputs: Outputs, sample: Sample) -> None:
        """Adds a frame.

        Args:
            outputs: `classes` (T), `scores` (T), `boxes` (T, 4) left, top, right, bottom as shares of the input, `masks`
                (T, h, w) in steps of 1/255: of the frame as `Preprocess` fitted it.
            sample: the frame at its own pixels, with its things.

        Raises:
            InputError: an output is missing, or the sample was read without its things.
        """
        given = {name: choose(outputs, name, "output of a graph:") for name in OUTPUTS}
        self._places.append(self._targets.place_of(sample))
        size = sample.label_HW.shape[0], sample.label_HW.shape[1]
        things = read_things(given, self._names, self._preprocess, size, 0.0, self._targets.inside_hw)
        self._found.append(regions_found(things, size))

    def result(self) -> dict[str, Any]:
        """Figures of masks, then of boxes, see `average_precision`."""
        every = range(len(self._found))
        return self._precision(every, "mask") | self._precision(every, "box")

    def figure_of(self, places: Sequence[int]) -> float | None:
        """Mask AP of the answers at these places, from 0 in the order in which they were added; one that is named twice counts
        twice."""
        found: float | None = self._precision(places, "mask")["mask_ap"]
        return found

    def _precision(self, places: Sequence[int], kind: Kind) -> dict[str, Any]:
        truth = [self._targets.frames[self._places[place]] for place in places]
        found = [self._found[place] for place in places]
        return average_precision(self._targets.classes, truth, found, kind)


def regions_of(things: Instances, classes: Container[int], inside_HW: Mask | None = None) -> Regions:
    """The things of a frame that are of some classes, inside a region, with the smallest boxes around their pixels."""
    kept, boxes, runs, areas = [], [], [], []
    for index, class_id in enumerate(things.classes_I.tolist()):
        if class_id not in classes:
            continue
        mask_HW = things.mask(index) if inside_HW is None else things.mask(index) & inside_HW
        box = box_of(mask_HW)
        if box is None:
            continue
        left, top, right, bottom = box
        kept.append(index)
        boxes.append((left, top, right - left, bottom - top))
        runs.append(encode_runs(mask_HW[top:bottom, left:right], top, left, things.size))
        areas.append(int(np.count_nonzero(mask_HW)))
    boxes_T4, areas_T = np.array(boxes, np.float64).reshape(-1, 4), np.array(areas, np.int64)
    return Regions(things.size, things.classes_I[kept], boxes_T4, runs, areas_T, things.crowd_I[kept])


def regions_found(things: Sequence[Thing], size: tuple[int, int]) -> Regions:
    """What a graph found in a frame of `size` (H, W)."""
    corners_T4 = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)
    boxes_T4 = np.concatenate((corners_T4[:, :2], np.maximum(corners_T4[:, 2:] - corners_T4[:, :2], 0.0)), axis=1)
    return Regions(
        size,
        np.array([thing.class_id for thing in things], np.int64),
        boxes_T4,
        [thing.runs for thing in things],
        np.array([thing.pixels for thing in things], np.int64),
        np.zeros(len(things), np.bool_),
        np.array([thing.score for thing in things], np.float64),
    )

"""mIoU of small things: what a coarser grid, fewer tokens or a lower input lose first, and mIoU hardly weighs.

Shapes: H W pixels; P those that are labelled a thing, I all 256 ids of a label map, K components of one map.
"""

import math
from collections.abc import Sequence

import numpy as np

from edgeprune.data.nearest import LabelMap
from edgeprune.evaluate.components import connected_components

SMALL_PX = 32**2  # COCO's bound: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014


class SmallThings:
    """Sums over frames, by class: labelled pixels of small things, those that were found, and false alarms.

    A thing is what hangs together in the labels of one class (8-neighbourhood), for a label map has no instances; it is small
    where it has fewer than `SMALL_PX` pixels at the size at which it is scored. So neighbours that touch count as one, and what
    looks out behind a pole as two. Pixels labelled `ignore_index` are of no class in both maps.

    IoU of a class is found / (labelled + false alarms). False alarms are pixels of a predicted component that are labelled
    otherwise. Of a component that covers things of its class they are shared among these by the pixels that it covers of each,
    and small ones take their part: a rough edge of a large car is not held against a small one elsewhere, nor all of it
    against one that it runs into. So false positives are shared by size in mIoU^K (Wang et al., "Revisiting Evaluation
    Metrics for Semantic Segmentation", NeurIPS 2023). A component that covers none counts whole where it is small itself, a
    thing that isn't there, and not at all where it is large, which mIoU sees.

    Args:
        things: ids of the classes that are things.
        ignore_index: label id of pixels that are not scored; no class.
    """

    def __init__(self, things: Sequence[int], ignore_index: int) -> None:
        self.things = sorted(set(things))
        self.ignore_index = ignore_index
        self._thing_or_none_I = np.full(256, ignore_index, np.uint8)
        self._thing_or_none_I[self.things] = self.things
        self.labelled_I, self.found_I = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.false_I = np.zeros(256)

    def update(self, pred_HW: LabelMap, label_HW: LabelMap) -> None:
        """Adds a frame; both maps have one shape."""
        none = np.uint8(self.ignore_index)
        pred_HW = np.where(label_HW == none, none, self._thing_or_none_I[pred_HW])
        label_HW = self._thing_or_none_I[label_HW]
        predicted, labelled = connected_components(pred_HW), connected_components(label_HW)

        seen_HW = label_HW != none
        label_P, right_P = label_HW[seen_HW], pred_HW[seen_HW] == label_HW[seen_HW]
        small_P = (labelled.area_K < SMALL_PX)[labelled.of_HW[seen_HW]]
        self.labelled_I += np.bincount(label_P[small_P], minlength=256)
        self.found_I += np.bincount(label_P[small_P & right_P], minlength=256)

        count, component_P = len(predicted.area_K), predicted.of_HW[seen_HW]
        covered_K = np.bincount(component_P[right_P], minlength=count)
        small_K = np.bincount(component_P[right_P & small_P], minlength=count)
        share_K = np.where(covered_K > 0, small_K / np.maximum(covered_K, 1), predicted.area_K < SMALL_PX)
        self.false_I += np.bincount(predicted.id_K, (predicted.area_K - covered_K) * share_K, minlength=256)

    @property
    def miou(self) -> float:
        """Mean IoU over the things of which the labels have a small one; nan when there is none."""
        labelled, found, false = (each_I[self.things] for each_I in (self.labelled_I, self.found_I, self.false_I))
        present = labelled > 0
        return float(np.mean((found / np.maximum(labelled + false, 1))[present])) if present.any() else math.nan

"""Average precision of things by COCO's definition (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014;
cocodataset.org/#detection-eval), computed by faster-coco-eval, an extra.

What is compared is kept as run lengths, some hundred bytes a thing, never as masks.

Shapes: H W pixels of a frame, T things. Of precision: O overlaps, R recalls, K classes, A areas, M limits of things in a frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError

Kind = Literal["mask", "box"]
IOU_TYPES: dict[Kind, str] = {"mask": "segm", "box": "bbox"}  # what the library calls them
SIZES = ("small", "medium", "large")  # of areas, as the library calls them; beside these there is `all`


def load_library() -> Any:
    """faster-coco-eval.

    Raises:
        InputError: it can't be imported here.
    """
    try:
        import faster_coco_eval
    except ImportError as error:
        raise InputError(
            f"average precision needs faster-coco-eval, which cannot be imported ({error}); pip install 'edgeprune[coco]'"
        ) from None
    return faster_coco_eval


@dataclass(frozen=True, eq=False)
class Regions:
    """The things of one frame, or what a graph takes for things.

    Attributes:
        size: H and W of the frame, in pixels.
        classes_T: ids of their classes.
        boxes_T4: left, top, width, height in pixels of the frame.
        runs: of each the run lengths of its mask, in COCO's compressed form.
        areas_T: how many pixels each mask covers.
        crowd_T: see `Instances.crowd_I`; of what a graph says there is none.
        scores_T: of what a graph says; None: of targets.
    """

    size: tuple[int, int]
    classes_T: npt.NDArray[np.integer]
    boxes_T4: npt.NDArray[np.float64]
    runs: Sequence[str]
    areas_T: npt.NDArray[np.int64]
    crowd_T: npt.NDArray[np.bool_]
    scores_T: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.classes_T)


def average_precision(
    classes: Mapping[int, str], truth: Sequence[Regions], found: Sequence[Regions], kind: Kind
) -> dict[str, Any]:
    """Figures 0 to 1 by name; None where there is no thing that they could speak of.

    `mask_ap`: the mean over the classes that occur, and over the overlaps (intersection over union) of .5, .55 ... .95 from
    which on a thing counts as found. Of each class the 100 best of a frame count. `mask_ap50`, `mask_ap75`: at one overlap.
    `mask_ap_small`, `_medium`, `_large`: of things of up to 32 x 32 pixels, of up to 96 x 96, and above. `per_class_mask_ap`:
    by name. `box_ap` and so on alike. What is found in a crowd is neither right nor wrong.

    Args:
        classes: names of the classes that count, by id.
        truth, found: of each frame, in the same order.
    """
    library = load_library()
    compared = _as_coco(library, classes, truth, kind), _as_coco(library, classes, found, kind)
    evaluator = library.COCOeval_faster(*compared, IOU_TYPES[kind])
    evaluator.evaluate()
    evaluator.accumulate()
    precision_ORKA = np.asarray(evaluator.eval["precision"])[..., -1]  # M: 1, 10 and 100
    overlaps_O, areas = np.asarray(evaluator.params.iouThrs), list(evaluator.params.areaRngLbl)
    at50, at75 = (int(np.argmin(np.abs(overlaps_O - overlap))) for overlap in (0.5, 0.75))
    precision_ORK = precision_ORKA[..., areas.index("all")]
    figures = {"": _mean(precision_ORK), "50": _mean(precision_ORK[at50]), "75": _mean(precision_ORK[at75])}
    figures |= {f"_{size}": _mean(precision_ORKA[..., areas.index(size)]) for size in SIZES}
    by_class = {classes[index]: _mean(precision_ORK[..., place]) for place, index in enumerate(sorted(classes))}
    return {f"{kind}_ap{ending}": value for ending, value in figures.items()} | {f"per_class_{kind}_ap": by_class}


def _mean(precision: npt.NDArray[np.floating]) -> float | None:
    """Over what is known: where there is no thing, precision is -1."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _as_coco(library: Any, classes: Mapping[int, str], frames: Sequence[Regions], kind: Kind) -> Any:
    """The library's object of targets or of what was found. Ids begin with 1: a match with 0 would be none.

    A target is small or large by the pixels of its mask, what was found by those of what is compared (COCO's `loadRes`).
    """
    annotations: list[dict[str, Any]] = []
    for image, regions in enumerate(frames, 1):
        for place, class_id in enumerate(regions.classes_T.tolist()):
            left, top, width, height = regions.boxes_T4[place].tolist()
            by_box = kind == "box" and regions.scores_T is not None
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": class_id + 1,
                "bbox": [left, top, width, height],
                "segmentation": {"size": list(regions.size), "counts": regions.runs[place]},
                "area": width * height if by_box else int(regions.areas_T[place]),
                "iscrowd": int(regions.crowd_T[place]),
            }
            score = {} if regions.scores_T is None else {"score": float(regions.scores_T[place])}
            annotations.append(annotation | score)
    held = library.COCO()
    held.dataset = {
        "images": [
            {"id": image, "height": regions.size[0], "width": regions.size[1]}
            for image, regions in enumerate(frames, 1)
        ],
        "categories": [{"id": index + 1, "name": classes[index]} for index in sorted(classes)],
        "annotations": annotations,
    }
    held.createIndex()
    return held

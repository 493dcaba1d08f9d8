"""The instance task: each thing has a class and a mask of its own.

Shapes: B batch, I things, P planes of eight things each, Q queries, K classes, H W pixels, h w of mask logits.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import PER_PLANE
from edgeprune.model.global_batch import batch_sum
from edgeprune.model.heads.instance import Answers, QueryHead
from edgeprune.model.network import Network, Prediction
from edgeprune.train.augment import Augment
from edgeprune.train.matching import BOX_WEIGHT, CLASS_WEIGHT, MASK_WEIGHT, Pairs, Things, distances, match
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.instance_checks import begins_anew, check_things
from edgeprune.train.tasks.instance_scores import score_things
from edgeprune.train.tasks.task import Taught
from edgeprune.train.validation import open_validation

LEAST_PIXELS = 4  # of a thing, at the input, to be one
NONE_WEIGHT = 0.1  # of a query that has no thing, which most have not (Cheng 2022, section 4.1)
MASKED_UNTIL = 0.75  # of a phase: until there the probability of masked attention falls from 1 to 0


@dataclass
class Targets:
    """Of a batch: `labels_BHW` (int64) and the things of its frames."""

    labels_BHW: Tensor
    things: Things


class Instance:
    """What the loader gives is `labels` (B, H, W), `planes` (B, P, H, W) of bits, and `classes` (B, 8 P), `ignore_index` where
    there is no thing; what the losses take is `Targets`.

    Args:
        histogram: of the pixels' classes; nothing hangs on it.
        device: what the phase trains on.
    """

    things: ClassVar[bool] = True

    def __init__(
        self, recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device
    ) -> None:
        self.recipe, self.phase, self.ignore_index = recipe, phase, data_set.ignore_index
        size = (recipe.model.height, recipe.model.width)
        self._augment = Augment(phase.augment, size, phase.crop, data_set.ignore_index)
        weights_K1 = torch.ones(recipe.model.classes + 1)
        weights_K1[-1] = NONE_WEIGHT
        self._weights_K1 = weights_K1.to(device)
        self._masks_attention = phase.kind == "dense" and begins_anew(recipe, phase)

    @staticmethod
    def check(recipe: Recipe, name: str, phase: Phase) -> None:
        """See `check_things`."""
        check_things(recipe, name, phase)

    def before_step(self, model: Network, progress: float) -> None:
        """Masked attention is for queries that begin anew: those that have learnt to do without it are not masked again."""
        assert isinstance(model.head, QueryHead)
        model.head.masked = max(0.0, 1 - progress / MASKED_UNTIL) if self._masks_attention else 0.0

    def augment(self, images_B3HW: Tensor, targets: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Targets]:
        """A random window, flip and colours; the things that still have LEAST_PIXELS."""
        labels_BHW, planes_BPHW, classes_BI = targets
        most = int((classes_BI != self.ignore_index).sum(1).max())
        planes_BPHW = planes_BPHW[:, : max(1, -(-most // PER_PLANE))]  # the others are empty
        images_B3HW, labels_BHW, planes_BPHW = self._augment.with_planes(images_B3HW, labels_BHW, planes_BPHW)
        return images_B3HW, Targets(labels_BHW, things_in(planes_BPHW, classes_BI, self.ignore_index))

    def labels(self, targets: Targets) -> Tensor:
        """The class of each pixel, for policies that learn from it."""
        return targets.labels_BHW

    def counted(self, targets: Targets) -> Tensor:
        """The weights of all queries by the classes that they are to say, and how many of them have a thing: (2,)."""
        counts, queries = targets.things.counts, self.recipe.model.queries
        learnt = sum(min(queries, count) for count in counts)
        weight = NONE_WEIGHT * (queries * len(counts) - learnt) + learnt
        return torch.tensor([weight, float(learnt)], device=targets.labels_BHW.device)

    def loss(self, prediction: Prediction, targets: Targets) -> Tensor:
        """Two terms, (2,), each the sum over all answers on the way: the cross-entropy of the queries' classes, a mean by
        weight, and how far masks and boxes of those that have a thing are off, a mean over these."""
        raw: Answers = prediction.raw
        each = zip(raw.logits, raw.boxes, raw.masks, match(raw, targets.things), strict=True)
        count = self.counted(targets)[1].clamp_min(1)
        terms = [
            torch.stack(
                (
                    CLASS_WEIGHT * self._classes(logits_BQK1, targets.things, pairs),
                    distances(boxes_BQ4, masks_BQhw, targets.things, pairs) / count,
                )
            )
            for logits_BQK1, boxes_BQ4, masks_BQhw, pairs in each
        ]
        return torch.stack(terms).sum(0)

    def _classes(self, logits_BQK1: Tensor, things: Things, pairs: Pairs) -> Tensor:
        none = logits_BQK1.shape[2] - 1
        wanted_BQ = torch.full(logits_BQK1.shape[:2], none, device=logits_BQK1.device)
        wanted_BQ[pairs.frame_M, pairs.query_M] = things.classes_I[pairs.thing_M]
        return F.cross_entropy(logits_BQK1.float().flatten(0, 1), wanted_BQ.flatten(), self._weights_K1)

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """Query by query from the one teacher, whose queries the pupil begins with (`check_things`), see `distance_to_answers`;
        and that of the final tokens."""
        phase, raw = self.phase, prediction.raw
        distance = raw.logits[-1].new_zeros((), dtype=torch.float32)
        if phase.distill:
            (theirs,) = taught.raws
            distance = distance + phase.distill * distance_to_answers(raw, theirs)
        return distance + taught.distance_of_tokens(prediction, phase)

    def score(self, model: Network) -> dict[str, float]:
        """Mask AP on the recipe's validation frames."""
        spec = self.recipe.validation
        if spec is None:
            return {}
        data_set, samples = open_validation(spec, things=True)
        return {"mask_ap": score_things(model, data_set, samples, spec.frames)}


def things_in(planes_BPHW: Tensor, classes_BI: Tensor, ignore_index: int) -> Things:
    """The things of a batch that have LEAST_PIXELS."""
    frame_I, number_I = (classes_BI != ignore_index).nonzero(as_tuple=True)
    bit_I = (number_I % PER_PLANE).to(torch.uint8)
    masks_IHW = (planes_BPHW[frame_I, number_I // PER_PLANE] >> bit_I[:, None, None]) & 1
    is_one_I = masks_IHW.flatten(1).sum(1, dtype=torch.int64) >= LEAST_PIXELS
    frame_I, number_I, masks_IHW = frame_I[is_one_I], number_I[is_one_I], masks_IHW[is_one_I]
    counts = torch.bincount(frame_I, minlength=len(classes_BI)).tolist()
    return Things(counts, classes_BI[frame_I, number_I].long(), masks_IHW, boxes_of(masks_IHW))


def boxes_of(masks_IHW: Tensor) -> Tensor:
    """The smallest box around each mask, (I, 4): centre, width and height as shares of the frame. None may be empty."""
    ends = []
    for axis, size in ((1, masks_IHW.shape[2]), (2, masks_IHW.shape[1])):
        filled_IS = masks_IHW.amax(axis) > 0
        number_S = torch.arange(size, device=masks_IHW.device)
        first_I = torch.where(filled_IS, number_S, size).amin(1)
        last_I = torch.where(filled_IS, number_S, -1).amax(1) + 1
        ends.append(torch.stack((first_I, last_I)).float() / size)
    (left_I, right_I), (top_I, bottom_I) = ends
    return torch.stack(((left_I + right_I) / 2, (top_I + bottom_I) / 2, right_I - left_I, bottom_I - top_I), dim=1)


def distance_to_answers(ours: Answers, theirs: Answers) -> Tensor:
    """How far the last answers of a pupil's queries are from its teacher's; 0 where they are the same. The KL divergence of the
    classes, and that of each mask pixel's two together with the distance of the boxes, weighed as in the losses: classes by
    NONE_WEIGHT where the teacher has no thing and 1 where it is sure of one, the rest by its probability of one. Means over the
    batch of all processes.

    Args:
        theirs: at the same stride or another.
    """
    log_p, log_q = (each.logits[-1].float().log_softmax(-1) for each in (ours, theirs))
    thing_BQ = 1 - log_q[..., -1].exp()
    weight_BQ = NONE_WEIGHT + (1 - NONE_WEIGHT) * thing_BQ
    class_BQ = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    said_BQhw = ours.masks[-1].float()
    taught_BQhw = F.interpolate(theirs.masks[-1].float(), said_BQhw.shape[-2:], mode="bilinear", align_corners=False)
    mask_BQ = torch.zeros_like(class_BQ)
    for logits_BQhw, sign in ((said_BQhw, 1), (taught_BQhw, -1)):  # cross-entropy minus entropy
        entropy_BQhw = F.binary_cross_entropy_with_logits(logits_BQhw, taught_BQhw.sigmoid(), reduction="none")
        mask_BQ = mask_BQ + sign * entropy_BQhw.mean((2, 3))
    box_BQ = (ours.boxes[-1].float() - theirs.boxes[-1].float()).abs().sum(-1)
    of_thing_BQ = thing_BQ * (MASK_WEIGHT * mask_BQ + BOX_WEIGHT * box_BQ)
    sums = torch.stack(((weight_BQ * class_BQ).sum(), weight_BQ.sum(), of_thing_BQ.sum(), thing_BQ.sum()))
    classes, weight, of_things, things = batch_sum(sums).unbind()
    return CLASS_WEIGHT * classes / weight + of_things / things.clamp_min(1e-6)

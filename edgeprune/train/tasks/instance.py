"""The instance task: each thing has a class and a mask of its own.

Shapes: B batch, I things, P planes of eight things each, Q queries, K classes, H W pixels, h w of mask logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import PER_PLANE
from edgeprune.model.global_batch import batch_sum
from edgeprune.model.heads.instance import Answers, QueryHead
from edgeprune.model.network import Network, Prediction
from edgeprune.train.augment import Augment
from edgeprune.train.losses import distance_to_tokens
from edgeprune.train.matching import Things, distances, match
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.task import Taught

MOST_THINGS = 64  # of a frame that are learnt, the largest
LEAST_PIXELS = 4  # of a thing, at the input, to be one
NONE_WEIGHT = 0.1  # of a query that has no thing, which most have not (Cheng 2022, section 4.1)
CLASS_WEIGHT = 2.0
MASKED_UNTIL = 0.75  # of a phase: until there the probability of masked attention falls from 1 to 0


class Instance:
    """Targets are `labels` (B, H, W), `planes` (B, P, H, W) of bits, and `classes` (B, I), `ignore_index` where there is no thing.

    Args:
        histogram: of the pixels' classes; nothing hangs on it.
        device: what the phase trains on.
    """

    def __init__(self, recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device):
        self.recipe, self.phase, self.ignore_index = recipe, phase, data_set.ignore_index
        size = (recipe.model.height, recipe.model.width)
        self._augment = Augment(phase.augment, size, phase.crop, data_set.ignore_index)
        weights_K1 = torch.ones(recipe.model.classes + 1)
        weights_K1[-1] = NONE_WEIGHT
        self._weights_K1 = weights_K1.to(device)

    def before_step(self, model: Network, progress: float) -> None:
        """Masked attention is for the beginning of a dense phase: a network that has learnt to do without is not masked again."""
        assert isinstance(model.head, QueryHead)
        model.head.masked = max(0.0, 1 - progress / MASKED_UNTIL) if self.phase.kind == "dense" else 0.0

    def augment(self, images_B3HW: Tensor, targets: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, "Targets"]:
        labels_BHW, planes_BPHW, classes_BI = targets
        images_B3HW, labels_BHW, planes_BPHW = self._augment.with_planes(images_B3HW, labels_BHW, planes_BPHW)
        things = [
            self._things(planes_PHW, classes_I) for planes_PHW, classes_I in zip(planes_BPHW, classes_BI, strict=True)
        ]
        return images_B3HW, Targets(labels_BHW, things)

    def _things(self, planes_PHW: Tensor, classes_I: Tensor) -> Things:
        """Those that still have pixels."""
        index_I = torch.arange(len(classes_I), device=classes_I.device)[classes_I != self.ignore_index]
        bits_I = (index_I % PER_PLANE).to(torch.uint8)
        masks_IHW = (planes_PHW[index_I // PER_PLANE] >> bits_I[:, None, None]) & 1
        kept_I = masks_IHW.flatten(1).sum(1, dtype=torch.int64) >= LEAST_PIXELS
        masks_IHW = masks_IHW[kept_I]
        return Things(classes_I[index_I][kept_I].long(), masks_IHW, boxes_of(masks_IHW))

    def labels(self, targets: "Targets") -> Tensor:
        """The class of each pixel, for policies that learn from it."""
        return targets.labels_BHW

    def counted(self, targets: "Targets") -> Tensor:
        """Things."""
        count = sum(len(each.classes_I) for each in targets.things)
        return torch.tensor(float(max(1, count)), device=targets.labels_BHW.device)

    def loss(self, prediction: Prediction, targets: "Targets") -> Tensor:
        """Of each answer on the way the cross-entropy of the queries' classes, and what masks and boxes of those that have a thing
        are off by, the mean over the things."""
        raw: Answers = prediction.raw
        return sum(
            (self._loss_of(*answer, targets) for answer in zip(raw.logits, raw.boxes, raw.masks, strict=True)),
            start=raw.logits[-1].new_zeros((), dtype=torch.float32),
        )

    def _loss_of(self, logits_BQK1: Tensor, boxes_BQ4: Tensor, masks_BQhw: Tensor, targets: "Targets") -> Tensor:
        wanted_BQ = torch.full(logits_BQK1.shape[:2], logits_BQK1.shape[2] - 1, device=logits_BQK1.device)
        distance = logits_BQK1.new_zeros((), dtype=torch.float32)
        for index, things in enumerate(targets.things):
            queries_M, found_M = match(logits_BQK1[index], boxes_BQ4[index], masks_BQhw[index], things)
            wanted_BQ[index, queries_M] = things.classes_I[found_M]
            distance = distance + distances(boxes_BQ4[index, queries_M], masks_BQhw[index, queries_M], things, found_M)
        classes = F.cross_entropy(logits_BQK1.float().flatten(0, 1), wanted_BQ.flatten(), self._weights_K1)
        return CLASS_WEIGHT * classes + distance / self.counted(targets)

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """Query by query, for a pupil that begins with its teacher's weights has its teacher's queries: the KL divergence of the
        classes, and where the teacher has a thing the cross-entropy of the masks and the distance of the boxes; and that of the
        final tokens."""
        phase, raw = self.phase, prediction.raw
        distance = raw.logits[-1].new_zeros((), dtype=torch.float32)
        if phase.distill:
            each = [distance_to_answers(raw, theirs) for theirs in taught.raws]
            distance = distance + phase.distill * torch.stack(each).mean()
        if phase.distill_tokens:
            assert taught.x_BND is not None  # `check_teachers`
            distance = distance + phase.distill_tokens * distance_to_tokens(prediction.x_BND, taught.x_BND)
        return distance

    def score(self, model: Network) -> dict[str, float]:
        """Mask AP on the recipe's validation frames."""
        raise NotImplementedError


class Targets:
    """Of a batch: `labels_BHW` (int64) and the things of each frame."""

    def __init__(self, labels_BHW: Tensor, things: list[Things]):
        self.labels_BHW, self.things = labels_BHW, things


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
    """How far the last answers of a pupil's queries are from its teacher's, see `Instance.distance`; means over all queries, or
    over those with a thing by the teacher's probability of one."""
    log_p, log_q = (each.logits[-1].float().log_softmax(-1) for each in (ours, theirs))
    classes = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1).mean()
    thing_BQ = 1 - log_q[..., -1].exp()
    things = batch_sum(thing_BQ.sum()).clamp_min(1e-6)
    masks_BQhw = F.interpolate(theirs.masks[-1].float(), ours.masks[-1].shape[-2:], mode="bilinear").sigmoid()
    entropy_BQ = F.binary_cross_entropy_with_logits(ours.masks[-1].float(), masks_BQhw, reduction="none").mean((2, 3))
    box_BQ = (ours.boxes[-1].float() - theirs.boxes[-1].float()).abs().sum(-1)
    return classes + (thing_BQ * (entropy_BQ + box_BQ)).sum() / things

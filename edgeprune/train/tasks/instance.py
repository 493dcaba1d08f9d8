"""The instance task: each thing has a class and a mask of its own.

Shapes: B batch, I things, P planes of eight things each, Q queries, K classes, H W pixels, h w of mask logits.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import PER_PLANE
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks.metric import RowScores
from edgeprune.model.global_batch import batch_sum
from edgeprune.model.heads.answers import Answers
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.heads.places import cut, uncut
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Select
from edgeprune.train.augment import Augment
from edgeprune.train.guided import draw_guided, pairs_of
from edgeprune.train.heatmap import heatmap_distance, heatmap_targets
from edgeprune.train.matching import BOX_WEIGHT, CLASS_WEIGHT, MASK_WEIGHT, Pairs, Things, distances, match
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.instance_checks import begins_anew, check_things
from edgeprune.train.tasks.instance_scores import judge_things, new_scores, score_things
from edgeprune.train.tasks.task import Judged, Taught
from edgeprune.train.validation import open_validation

LEAST_PIXELS = 4  # of a thing, at the input, to be one
NONE_WEIGHT = 0.1  # of a query that has no thing, which most have not (Cheng 2022, section 4.1)
HEATMAP_WEIGHT = 2.0
MASKED_UNTIL = 0.75  # of a phase: until there the probability of masked attention falls from 1 to 0


@dataclass
class Targets:
    """Of a batch: `labels_BHW` (int64) and the things of its frames; and the queries that are told which is theirs."""

    labels_BHW: Tensor
    things: Things
    guided: Guided | None = None


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
        things = things_in(planes_BPHW, classes_BI, self.ignore_index)
        guided = draw_guided(things, self.phase.guided) if self.phase.guided else None
        return images_B3HW, Targets(labels_BHW, things, guided)

    def labels(self, targets: Targets) -> Tensor:
        """The class of each pixel, for policies that learn from it."""
        return targets.labels_BHW

    def guided(self, targets: Targets) -> Guided | None:
        return targets.guided

    def counted(self, targets: Targets) -> Tensor:
        """The weights of all queries by the classes that they are to say, how many of them have a thing, how many things and
        frames there are, and how many things: (4,)."""
        counts, queries = targets.things.counts, self.recipe.model.queries
        learnt = sum(min(queries, count) for count in counts)
        weight = NONE_WEIGHT * (queries * len(counts) - learnt) + learnt
        return torch.tensor([weight, learnt, sum(counts) + len(counts), sum(counts)], device=targets.labels_BHW.device)

    def loss(self, prediction: Prediction, targets: Targets) -> Tensor:
        """Four terms, (4,): the cross-entropy of the queries' classes, a mean by weight, and how far masks and boxes of those
        that have a thing are off, a mean over these, each the sum over all answers on the way; and how far the places are off
        where queries begin, over things and frames; and how far masks and boxes of guided queries are off, a mean over
        things."""
        raw: Answers = prediction.raw
        each = zip(raw.logits, raw.boxes, raw.masks, match(raw, targets.things), strict=True)
        _, learnt, found, things = self.counted(targets).clamp_min(1).unbind()
        terms = [
            torch.stack(
                (
                    CLASS_WEIGHT * self._classes(logits_BQK1, targets.things, pairs),
                    distances(boxes_BQ4, masks_BQhw, targets.things, pairs) / learnt,
                )
            )
            for logits_BQK1, boxes_BQ4, masks_BQhw, pairs in each
        ]
        target_BKHW = heatmap_targets(targets.things, *raw.heatmap_BKPhPw.shape[1:])
        of_places = HEATMAP_WEIGHT * heatmap_distance(raw.heatmap_BKPhPw, target_BKHW) / found
        of_guided = self._of_guided(raw, targets) / things
        return torch.cat((torch.stack(terms).sum(0), of_places[None], of_guided[None]))

    def _of_guided(self, raw: Answers, targets: Targets) -> Tensor:
        """How far guided queries are from their things in mask and box, the sum over all answers on the way and over the
        batch's things, of each a mean over its queries. Not in class: of two queries on one thing the one that is not to say so
        has to say "none", and these, which are always right, outweigh it."""
        guided, said = targets.guided, raw.guided
        wrong = raw.heatmap_BKPhPw.new_zeros((), dtype=torch.float32)
        if guided is None or said is None:
            return wrong
        pairs = pairs_of(guided)
        for boxes_BG4, masks_BGhw in zip(said.boxes, said.masks, strict=True):
            wrong = wrong + distances(boxes_BG4, masks_BGhw, targets.things, pairs)
        return wrong / guided.groups

    def _classes(self, logits_BQK1: Tensor, things: Things, pairs: Pairs) -> Tensor:
        none = logits_BQK1.shape[2] - 1
        wanted_BQ = torch.full(logits_BQK1.shape[:2], none, device=logits_BQK1.device)
        wanted_BQ[pairs.frame_M, pairs.query_M] = things.classes_I[pairs.thing_M]
        return F.cross_entropy(logits_BQK1.float().flatten(0, 1), wanted_BQ.flatten(), self._weights_K1)

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """Query by query from the one teacher, see `distance_to_answers`; and that of the final tokens."""
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

    @staticmethod
    def judge(
        model: Network,
        data_set: DataSet,
        samples: Samples,
        frames: int | None,
        select: Select | None,
        detail: bool = False,
    ) -> Judged:
        """See `judge_things`."""
        return judge_things(model, data_set, samples, frames, select, detail)

    @staticmethod
    def scores(preprocess: Preprocess, data_set: DataSet) -> RowScores:
        """As `judge`, at the frames' own pixels."""
        return new_scores(preprocess, data_set)


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
    """How far the last answers of a pupil's queries are from those of its teacher's that begin at the same place, and how far
    what the two say of all places; 0 where they are the same. The KL divergence of the classes, and that of each mask pixel's
    two and each place's together with the distance of the boxes, weighed as in the losses: classes by NONE_WEIGHT where the
    teacher has no thing and 1 where it is sure of one, the rest by its probability of one. Means over the batch of all
    processes.

    Args:
        theirs: with as many places; masks at the same stride or another.
    """
    same_BQR = ours.places_BQ[:, :, None] == theirs.places_BQ[:, None]
    found_BQ, their_BQ = same_BQR.any(-1), same_BQR.byte().argmax(-1)

    def of_same(said_BRx: Tensor) -> Tensor:
        index_BQx = their_BQ.reshape(*their_BQ.shape, *[1] * (said_BRx.ndim - 2)).expand(-1, -1, *said_BRx.shape[2:])
        return said_BRx.float().gather(1, index_BQx)

    log_p, log_q = ours.logits[-1].float().log_softmax(-1), of_same(theirs.logits[-1]).log_softmax(-1)
    thing_BQ = found_BQ * (1 - log_q[..., -1].exp())
    weight_BQ = found_BQ * (NONE_WEIGHT + (1 - NONE_WEIGHT) * thing_BQ)
    class_BQ = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    box_BQ4, their_box_BQ4 = ours.boxes[-1].float(), of_same(theirs.boxes[-1])
    said_BQhw = uncut(ours.masks[-1].float(), box_BQ4.detach())
    taught_BQhw = uncut(of_same(theirs.masks[-1]), their_box_BQ4)
    taught_BQhw = F.interpolate(taught_BQhw, said_BQhw.shape[-2:], mode="bilinear", align_corners=False)
    said_BQhw, taught_BQhw = (cut(each_BQhw, their_box_BQ4) for each_BQhw in (said_BQhw, taught_BQhw))
    mask_BQ = divergence(said_BQhw, taught_BQhw).mean((2, 3))
    box_BQ = (box_BQ4 - their_box_BQ4).abs().sum(-1)
    of_thing_BQ = thing_BQ * (MASK_WEIGHT * mask_BQ + BOX_WEIGHT * box_BQ)
    of_places = HEATMAP_WEIGHT * divergence(ours.heatmap_BKPhPw.float(), theirs.heatmap_BKPhPw.float()).sum()
    sums = torch.stack(((weight_BQ * class_BQ).sum(), weight_BQ.sum(), of_thing_BQ.sum() + of_places, thing_BQ.sum()))
    classes, weight, of_things, things = batch_sum(sums).unbind()
    return CLASS_WEIGHT * classes / weight.clamp_min(1e-6) + of_things / things.clamp_min(1.0)


def divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Of the probabilities that logits say, element by element: cross-entropy minus entropy, 0 where they are the same."""
    wanted = theirs.sigmoid()
    cross = F.binary_cross_entropy_with_logits(ours, wanted, reduction="none")
    return cross - F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")

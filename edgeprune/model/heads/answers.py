"""What the instance head computes, and boxes as the metric has them.

Shapes: B batch, Q queries, K classes, h w pixels at stride 4, Ph x Pw places of stride 8.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Answers:
    """What the head computes, before the first layer of the decoder and after each: the last is its answer, the others are
    learnt from too.

    Attributes:
        logits: (B, Q, K + 1) of each; the last class is "none".
        boxes: (B, Q, 4) of each: x and y of the centre, width and height, as shares of the input.
        masks: (B, Q, h, w) of each, logits.
        heatmap_BKPhPw: logits of the middle of a thing of each class at each place.
        places_BQ: where the queries begin; the same place in two models is the same query.
        guided: what the queries say that are told in training which thing is theirs (`guided.py`); None: there are none.
    """

    logits: list[Tensor]
    boxes: list[Tensor]
    masks: list[Tensor]
    heatmap_BKPhPw: Tensor
    places_BQ: Tensor
    guided: "Answers | None" = None

    def of_frame(self, index: int) -> "Answers":
        """The last answer to one frame of the batch, as a batch of one."""
        one = slice(index, index + 1)
        logits, boxes, masks = ([each[-1][one]] for each in (self.logits, self.boxes, self.masks))
        return Answers(logits, boxes, masks, self.heatmap_BKPhPw[one], self.places_BQ[one])

    def parted(self, count: int) -> "Answers":
        """The answers of the first `count` queries; those of the others are `guided`."""
        return replace(self._of_queries(slice(count)), guided=self._of_queries(slice(count, None)))

    def _of_queries(self, some: slice) -> "Answers":
        logits, boxes, masks = ([said[:, some] for said in each] for each in (self.logits, self.boxes, self.masks))
        return Answers(logits, boxes, masks, self.heatmap_BKPhPw, self.places_BQ[:, some])


def corners(box_Q4: Tensor) -> Tensor:
    """Centre, width and height -> left, top, right, bottom; on the last axis."""
    middle, half = box_Q4[..., :2], box_Q4[..., 2:] / 2
    return torch.cat((middle - half, middle + half), dim=-1)

"""Queries that are told which thing is theirs: while the instance head learns, and never in a graph.

Matching gives a thing to one query of many, so that a few labelled photos teach few queries anything but "none". Beside the
queries that look for things, others begin at places inside labelled things and are each to find their own (He 2023, "FastInst",
section 3.4; Li 2022, "DN-DETR", without its matching either). They come in groups with one query for each thing, as what the
head is to find would be, and read no query of another group (Chen 2023, "Group DETR", section 3.2): none can copy.

Shapes: B batch, Q queries that look for things, R groups, I things of the frame that has most, G = R I guided queries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guided:
    """The guided queries of a batch, group after group.

    Attributes:
        places_BG: where each begins, of the places of stride 8.
        thing_BG: which of the batch's things it is to find; -1: none, for its frame has fewer things than another.
        groups: R.
    """

    places_BG: Tensor
    thing_BG: Tensor
    groups: int

    def seen_by(self, queries: int) -> Tensor:
        """Which queries each reads, (B, Q + G, Q + G): those that look for things each other, guided ones those of their group
        that have a thing, and everyone itself.

        Args:
            queries: Q, which come first.
        """
        guided, device = self.places_BG.shape[1], self.places_BG.device
        number_G = torch.arange(guided, device=device) // max(1, guided // self.groups)
        group_A = torch.cat((number_G.new_full((queries,), -1), number_G))
        has_thing_BA = torch.cat(
            (self.thing_BG.new_ones(len(self.thing_BG), queries), self.thing_BG >= 0), dim=1
        ).bool()
        of_group_AA = group_A[:, None] == group_A
        return of_group_AA & has_thing_BA[:, None] | torch.eye(len(group_A), dtype=torch.bool, device=device)

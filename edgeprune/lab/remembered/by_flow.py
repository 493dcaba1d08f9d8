"""What optical flow has to say: labels that are carried along it in place of being computed, and whether the labels of a way
move with what they label.

Shapes: H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter

from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered.flow import Flow
from edgeprune.lab.remembered.ways import ALONE, REMEMBERED, Way, last_labelled, shortened
from edgeprune.lab.through_time.scores import Judged

CARRIED = "labels carried by optical flow"


@dataclass
class Warped:
    """Labels beside those of the frame before, warped by the flow between the two.

    Over the pixels whose flow is consistent forward and backward, as Lai et al., "Learning Blind Video Temporal Consistency",
    ECCV 2018, leave out what is occluded; they compare colours.

    Attributes:
        pixels: that were compared.
        agreed: of each way, those whose label is that of the frame before.
    """

    pixels: int = 0
    agreed: dict[str, int] = field(default_factory=dict)

    def share(self, way: str) -> float | None:
        """None where no pixel was compared."""
        return self.agreed[way] / self.pixels if self.pixels else None


def warp(flow: Flow, images: Sequence[UInt8], frames: Judged, ways: Mapping[str, Way]) -> Warped:
    """Each frame's labels of each way against those before; pairs with a cut between them are left out."""
    found = Warped(agreed=dict.fromkeys(ways, 0))
    for at in pairs(frames):
        grey_HW, before_HW = flow.grey(images[at]), flow.grey(images[at - 1])
        there_HW2 = flow.between(grey_HW, before_HW)
        seen_HW = flow.consistent(there_HW2, flow.between(before_HW, grey_HW))
        found.pixels += int(frames.shown(at, seen_HW).sum())
        for name, way in ways.items():
            same_HW = flow.carry(way.answers[at - 1], there_HW2) == way.answers[at]
            found.agreed[name] += int(frames.shown(at, same_HW & seen_HW).sum())
    return found


def pairs(frames: Judged) -> list[int]:
    """The frames that have one before them in their clip."""
    return [at for at in range(1, len(frames.dense)) if at not in frames.begins]


def carry(flow: Flow, images: Sequence[UInt8], frames: Judged, ways: Mapping[str, Way]) -> tuple[str, Way]:
    """Labels of every so many frames by themselves, and of the others by the flow between each and the one that was labelled
    last (Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017, carry features so); and what that is called.

    As seldom by itself as makes it take as long on the mean as remembering, by what a flow to the frame before takes. Where
    flow takes longer than remembering there is no such number, and that of `repeat` is taken.
    """
    alone, carried = ways[ALONE], Way()
    flow_ms = fmean(
        _carry_one(flow, images[at], flow.grey(images[at - 1]), alone.answers[at])[1] for at in pairs(frames)
    )
    left_ms = ways[REMEMBERED].mean_ms - flow_ms
    as_long = (alone.mean_ms - flow_ms) / left_ms if left_ms > 0 else alone.mean_ms / ways[REMEMBERED].mean_ms
    every = shortened(frames.begins, len(frames.dense), round(as_long))
    for at, labelled in enumerate(last_labelled(frames.begins, len(frames.dense), every)):
        if at == labelled:
            carried.add(alone.answers[at], alone.ms[at], alone.tokens[at])
            last_HW = flow.grey(images[at])
            continue
        carried.add(*_carry_one(flow, images[at], last_HW, alone.answers[labelled]), 0.0)
    return f"{CARRIED}, one frame in {every} by itself", carried


def _carry_one(flow: Flow, image_HW3: UInt8, last_HW: UInt8, label_HW: UInt8) -> tuple[UInt8, float]:
    """A frame's labels, from those of a frame of which flow looks at `last_HW`; and what that takes in milliseconds."""
    began_s = perf_counter()
    carried_HW = flow.carry(label_HW, flow.between(flow.grey(image_HW3), last_HW))
    return carried_HW, 1000 * (perf_counter() - began_s)

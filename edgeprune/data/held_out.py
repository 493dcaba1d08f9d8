"""A part of a training split that is not trained on, so that something can be chosen by it.

Neighbours in a video show the same, so the part is a few stretches of frames that follow each other by name, each in the middle
of its share of the split, and not single frames from everywhere. Two frames at the ends of each stretch have a neighbour
outside.
"""

from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.paths import real_path
from edgeprune.data.datasets import load_data_set
from edgeprune.data.pairs import in_time
from edgeprune.data.samples import Samples, Split
from edgeprune.data.selection import FrameSelection
from edgeprune.data.split import open_split
from edgeprune.data.street import StreetSamples

STRETCHES = 4


@dataclass(frozen=True)
class HeldOut:
    """The part of a selection of training frames that is held out.

    Attributes:
        of: the selection, of the split `train`.
        share: of its frames.
    """

    of: FrameSelection
    share: float

    def leave(self, selection: FrameSelection, samples: Split) -> Split:
        """What is left of the samples of a selection; all of them where it is of another data set or split.

        Raises:
            InputError: nothing is.
        """
        if selection.split != self.of.split or real_path(Path(selection.data)) != real_path(Path(self.of.data)):
            return samples
        of = self.of
        held_out = set(self.take(open_split(load_data_set(of.data), of.split, of.include, of.exclude)).names)
        left = [index for index, name in enumerate(samples.names) if name not in held_out]
        if not left:
            raise InputError(
                f"all {len(samples)} frames of data set {selection.data} are held out, none is left to train on"
            )
        return samples.some(left)

    def take(self, samples: Split) -> Split:
        """The part itself, of the samples of the selection that it is held out of."""
        held_out = set(held_out_names(samples, self.share))
        return samples.some([index for index, name in enumerate(samples.names) if name in held_out])


def held_out_names(samples: Samples, share: float) -> list[str]:
    """The names of `share` of the samples, at least one, in up to STRETCHES stretches; of scenes of the street, which are no
    neighbours of each other, the last.

    Raises:
        InputError: there is but one frame.
    """
    names, total = sorted(samples.names, key=in_time), len(samples)
    count = max(1, round(share * total))
    if total < 2:
        raise InputError(f"nothing can be held out of a split of {total} frame; take hold_out away, or add frames")
    if isinstance(samples, StreetSamples):
        first = (total - count) // samples.clip * samples.clip  # whole clips
        if not first:
            raise InputError(
                f"hold_out takes whole clips, and {share:g} of {total} frames in clips of {samples.clip} leaves none to train "
                "on; add frames, or set hold_out to less"
            )
        return names[first:]
    stretches = min(STRETCHES, count)
    held_out: list[str] = []
    for stretch in range(stretches):
        first, end = (total * place // stretches for place in (stretch, stretch + 1))
        size = count * (stretch + 1) // stretches - count * stretch // stretches
        start = first + (end - first - size) // 2
        held_out += names[start : start + size]
    return held_out

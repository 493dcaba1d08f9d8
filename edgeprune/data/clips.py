"""Which frames of a data set follow each other: the street's own say so, files by the numbers in their names.

A clip of files is of one name but for its last number: `drive7_0031`, `drive7_0032`; `1623456789.125` is a number too. It ends
where the name is another, and where the number rises by over twice what it does for most frames of that name: what lay between
is not there.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from edgeprune.data.samples import Samples
from edgeprune.data.street import CachedStreet, StreetSamples

GAP = 2.0  # times the usual step of the numbers; more is a hole

_NUMBERED = re.compile(r"(.*?)(\d+(?:\.\d+)?)(\D*)", re.DOTALL)


def clips_in(samples: Samples) -> list[list[int]]:
    """The places of each clip's frames; of the street each scene is a clip by itself, where it has no clips."""
    street = samples.samples if isinstance(samples, CachedStreet) else samples
    if not isinstance(street, StreetSamples):
        return clips_of(samples.names)
    places = range(len(street))
    return [list(places[begin : begin + street.clip]) for begin in places[:: street.clip]]


def clips_of(names: Sequence[str]) -> list[list[int]]:
    """The places in `names` of each clip's frames, as they were filmed; a name without a number is a clip by itself."""
    clips: list[list[int]] = []
    numbered: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for place, name in enumerate(names):
        if (found := _NUMBERED.fullmatch(name)) is None:
            clips.append([place])
        else:
            head, number, tail = found.groups()
            numbered.setdefault((head, tail), []).append((float(number), place))
    for frames in numbered.values():
        clips += _without_holes(sorted(frames))
    return clips


def _without_holes(frames: Sequence[tuple[float, int]]) -> list[list[int]]:
    """Rising numbers with their places, apart where one is missing."""
    steps = [after - before for (before, _), (after, _) in pairwise(frames)]
    most = GAP * median(steps) if steps else 0.0
    clips = [[frames[0][1]]]
    for step, (_, place) in zip(steps, frames[1:], strict=True):
        if step > most:
            clips.append([])
        clips[-1].append(place)
    return clips

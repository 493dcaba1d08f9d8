"""Things through a bundle's ways of finding them: its memory, each frame by itself, the dense network in FP32; and what was
found repeated.

Array shapes: as `evaluate.tasks.instance` has them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from time import perf_counter
from typing import cast

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data import Sample, Samples
from edgeprune.data.clips import clips_in
from edgeprune.data.datasets import load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.accuracy import open_scored
from edgeprune.evaluate.tasks.instance import Instance as Metric
from edgeprune.lab.remembered.clips import SPLIT, refuse_few
from edgeprune.lab.remembered.ways import REMEMBERED, WAITING, Opened, WayOf, graphs_ms, repeat
from edgeprune.lab.through_time.scores import DENSE
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks import Agreement
from edgeprune.runtime.tasks.instance import LEAST_SCORE, Instance, Result
from edgeprune.runtime.tasks.things import SCORES

TYPED = (
    "python -m edgeprune.lab.street_instances out/parked --data street-traffic --frames-per-drive 40 --speed 0 --val 80"
)
FIGURES = ("mask_ap", "mask_ap50", "mask_ap_small", "box_ap")  # of the metric
SHOWN = {
    "way": ("way", ""),
    "mask_ap": ("mask AP", ".4f"),
    "mask_ap50": ("AP50", ".4f"),
    "mask_ap_small": ("APs", ".4f"),
    "box_ap": ("box AP", ".4f"),
    "equal": ("equal", ".1%"),
    "flicker": ("flicker", ".2f"),
    "tokens": ("tokens", ".1%"),
    "mean_ms": ("mean ms", ".1f"),
    "p50_ms": ("p50", ".1f"),
    "speed": ("x dense", ".2f"),
}


@dataclass(frozen=True)
class ThingsRow:
    """What one way finds in all frames, and takes for those after the first.

    Attributes:
        mask_ap, mask_ap50, mask_ap_small, box_ap: see `Instance.columns` of the metric.
        equal: of the dense network's things the share that it finds too (`Instance.agreement` of the task).
        flicker: by how many things its count of a frame differs from that of the frame before, on the mean.
        tokens: that were computed, as a share of the dense network's.
        mean_ms, p50_ms: of a frame. speed: the dense network's mean over this one.
    """

    way: str
    mask_ap: float | None
    mask_ap50: float | None
    mask_ap_small: float | None
    box_ap: float | None
    equal: float
    flicker: float
    tokens: float
    mean_ms: float
    p50_ms: float
    speed: float


@dataclass(frozen=True)
class Drives:
    """Frames of a data set's val split that follow each other, clip after clip.

    Attributes:
        samples: of the split.
        places: in it, of the frames in a row.
        begins: numbers of the frames that begin a clip.
        metric: of the frames, and of the bundle.
    """

    name: str
    samples: Samples
    places: list[int]
    begins: set[int]
    metric: Metric

    def __iter__(self) -> Iterator[Sample]:
        return (self.samples[place] for place in self.places)


def read_drives(name: str, bundle: Bundle, frames: int) -> Drives:
    """The first frames of each clip of a data set's val split.

    Raises:
        InputError: there is no such data set, its classes are not the bundle's, or no frames of it follow each other.
    """
    data_set = load_data_set(name)
    samples = open_scored(bundle.manifest.task, data_set, SPLIT)
    clips = [clip[:frames] for clip in clips_in(samples)]
    refuse_few(f"the longest clip of {data_set.name}, {SPLIT},", max(clips, key=len, default=[]))
    places = [place for clip in clips for place in clip]
    begins = {0, *accumulate(len(clip) for clip in clips[:-1])}
    metric = Metric(bundle, data_set, len(places))
    return Drives(f"{data_set.name}, {SPLIT}", samples, places, begins, metric)


def compare_things(opened: Opened, bundle: Bundle, drives: Drives, note: Callable[[str], None]) -> list[ThingsRow]:
    """A row of each way."""
    ways = ask(opened, bundle, drives, note)
    ways |= dict(repeat(drives.begins, ways, beside) for beside in (REMEMBERED, WAITING))
    scores = {name: drives.metric.scores() for name in ways}
    for at, sample in enumerate(drives):
        drives.metric.look_at(sample, drives.samples.origin(drives.places[at]))
        for name, way in ways.items():
            scores[name].add(way.answers[at], sample)
    drives.metric.check()
    found = {name: each.result() for name, each in scores.items()}
    return [
        ThingsRow(
            name,
            **{figure: found[name][figure] for figure in FIGURES},
            equal=equal_share(ways[DENSE].answers, way.answers),
            flicker=flicker(way.answers, drives.begins),
            tokens=way.mean_tokens,
            mean_ms=way.mean_ms,
            p50_ms=way.p50_ms,
            speed=ways[DENSE].mean_ms / way.mean_ms,
        )
        for name, way in ways.items()
    ]


def ask(opened: Opened, bundle: Bundle, drives: Drives, note: Callable[[str], None]) -> dict[str, WayOf[Outputs]]:
    """Every frame through every way."""
    ways, fit = {name: WayOf[Outputs]() for name in (DENSE, *opened.streams)}, Preprocess.of(bundle.manifest)
    for number, sample in enumerate(drives, start=1):
        image_HW3 = fit.fit(sample.image_HW3)
        began_s = perf_counter()
        outputs = {name: np.array(value) for name, value in opened.dense(image_HW3).items()}
        ways[DENSE].add(outputs, 1000 * (perf_counter() - began_s), 1.0)
        for name, stream in opened.streams.items():
            result = cast(Result, stream.segment(image_HW3))
            kept = {key: np.array(value) for key, value in result.outputs.items()}  # an engine may write there again
            ways[name].add(kept, graphs_ms(result.facts), result.facts.token_share)
        if number % 20 == 0:
            note(f"{number} of {len(drives.places)} frames")
    return ways


def equal_share(dense: Sequence[Outputs], answers: Sequence[Outputs]) -> float:
    """Of the things of all frames after the first."""
    found = (Instance.agreement(*pair) for pair in zip(dense[1:], answers[1:], strict=True))
    return sum(found, Agreement(0, 0)).share


def flicker(answers: Sequence[Outputs], begins: set[int]) -> float:
    """The mean change of the number of things from a frame to the next of its clip."""
    counts = [int((outputs[SCORES] >= LEAST_SCORE).sum()) for outputs in answers]
    return fmean(abs(counts[at] - counts[at - 1]) for at in range(1, len(counts)) if at not in begins)


def refuse_what_is_of_labels(names: Sequence[str], data: str | None, loops: int) -> str:
    """The data set that is asked for. Raises InputError for what is of labels alone."""
    if data is None or names:
        raise InputError(
            f"the bundle finds things, which clips do not say; name --data alone, such as that of `{TYPED}`"
        )
    if loops > 1:
        raise InputError("--loops compares labels, and the bundle finds things; leave it out")
    return data

"""The synthetic street as a camera, with exact labels: synthetic://street?seed=1&height=384&width=512."""

from collections.abc import Iterable, Iterator
from itertools import count

from edgeprune import street as synthetic
from edgeprune.base.errors import InputError, choose
from edgeprune.base.masking import masked_uri
from edgeprune.data import spread
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.query import Option, read_options, split_uri
from edgeprune.runtime.cameras.source import FrameSource, Picture


def _drive(seed: int, height: int, width: int, speed: int) -> "synthetic.Street":
    from edgeprune.data.drive import Drive  # the renderer makes tables, which other cameras do without

    return Drive(seed, height, width, speed)


SCENES = {"street": _drive}
# frames=0: no end; ahead=0: each frame is rendered when it is asked for; speed: of the camera, in hundredths of the
# street's own; at 0 it stands, and traffic passes.
OPTIONS = {
    "seed": Option(1, least=0, most=2**32 - 1),
    "height": Option(384, least=16, most=4096),
    "width": Option(512, least=16, most=4096),
    "fps": Option(15, least=1, most=1000),
    "frames": Option(0, least=0),
    "ahead": Option(0, least=0, most=100_000),
    "speed": Option(100, least=0, most=1000),
}
AHEAD_BYTES = 2 << 30  # of frames and labels that are rendered before the first is asked for


def open_synthetic(uri: str, wanted: Wanted) -> FrameSource:
    """Opens synthetic://street with any of OPTIONS as its query, e.g. ?seed=3&frames=300&ahead=100.

    `ahead=N` renders N frames here and now (0.8 MB each at 384x512), so that no rendering competes with the graphs
    later. Where more frames are asked for than were rendered, the N are shown forwards, backwards, forwards ...: every
    step stays as small as in the street itself, and the labels stay exact.

    Raises:
        InputError: an unknown scene or option (names the nearest match), a value that isn't a number in range, or frames that
            are to be spread over a street without an end.
    """
    scene = choose(SCENES, split_uri(uri).netloc, "synthetic scene")
    options = read_options(uri, OPTIONS)
    if wanted.spread and not options["frames"]:
        raise InputError(
            f"{masked_uri(uri)} has no end that frames could be spread over; give it one, such as "
            "synthetic://street?seed=1&frames=600"
        )
    ahead = min(options["ahead"], options["frames"] or options["ahead"])
    held = ahead * options["height"] * options["width"] * 4
    if held > AHEAD_BYTES:
        raise InputError(
            f"ahead={options['ahead']} in {masked_uri(uri)}: {held / 1e9:.1f} GB of frames, at most {AHEAD_BYTES / 1e9:.1f} GB "
            "are held"
        )
    street = scene(options["seed"], options["height"], options["width"], options["speed"])
    return SyntheticStreet(
        uri, street, fps=options["fps"], frames=options["frames"], ahead=options["ahead"], wanted=wanted
    )


class SyntheticStreet(FrameSource):
    """Frames of a street with label_HW, named by their number in the street."""

    def __init__(self, uri: str, street: "synthetic.Street", *, fps: float, frames: int, ahead: int, wanted: Wanted):
        super().__init__(uri, live=wanted.realtime, fps=fps, loop=wanted.loop, paced=wanted.realtime)
        self._street = street
        self._frames, self._spread = frames, wanted.spread
        self._ahead = [self._render(index) for index in range(min(ahead, frames) if frames else ahead)]

    def _render(self, index: int) -> Picture:
        image_HW3, label_HW = self._street.frame(index)
        return Picture(image_HW3, f"{index:06d}", label_HW)

    def one_pass(self) -> Iterator[Picture]:
        for index in self._indices():
            yield self._ahead[there_and_back(index, len(self._ahead))] if self._ahead else self._render(index)

    def _indices(self) -> Iterable[int]:
        if not self._frames:
            return count()
        return spread(self._frames, self._spread) if self._spread else range(self._frames)


def there_and_back(index: int, count: int) -> int:
    """0, 1, ..., count-1, count-2, ..., 1, 0, 1, ...: the index-th term."""
    if count == 1:
        return 0
    phase = index % (2 * count - 2)
    return min(phase, 2 * count - 2 - phase)

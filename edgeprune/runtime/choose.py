"""Which bucket a frame gets. A way of deciding is a function or a class and a row in CHOOSERS."""

from collections.abc import Callable, Sequence

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import BucketEntry
from edgeprune.bundle.memory import STILL

NEXT_FRAME = "next-frame"
WAITING = 0.25  # of the tokens, at most: more is a scene that moves, and does not wait

# how many tokens the trunk suggests for this frame -> the name of a bucket
Chooser = Callable[[int], str]


def smallest_holding(buckets: Sequence[BucketEntry], count: int) -> BucketEntry:
    """The smallest bucket whose first decision keeps at least `count` tokens; the last, which is the full grid, else.

    Args:
        buckets: of the manifest, smallest first.
        count: tokens over the calibrated threshold.
    """
    return next((bucket for bucket in buckets if bucket.first >= count), buckets[-1])


def in_frame(buckets: Sequence[BucketEntry]) -> Chooser:
    """The smallest bucket that holds this frame's own count: nothing over the threshold is ever lost."""
    asked = asked_for(buckets)
    return lambda count: smallest_holding(asked, count).name


def asked_for(buckets: Sequence[BucketEntry]) -> list[BucketEntry]:
    """The buckets that a frame may ask for: those for budgets are left to a budget, where there are others.

    A frame unlike those of the calibration may have few tokens over the threshold because the model does not know what it
    sees, and would lose most in the smallest buckets (`docs/budgets.md`).
    """
    return [bucket for bucket in buckets if not bucket.for_budgets] or list(buckets)


class PreviousFrame:
    """The bucket that would have held the frame before, known before the trunk runs; the full grid to begin with.

    What the frame has more than the one before is lost for this frame.
    """

    def __init__(self, buckets: Sequence[BucketEntry]):
        self._buckets = asked_for(buckets)
        self._next = buckets[-1].name

    def __call__(self, count: int) -> str:
        chosen, self._next = self._next, smallest_holding(self._buckets, count).name
        return chosen


class NextFrame:
    """Of frames that remember: what changed in one waits for the next, which computes what changed in both, where at most
    WAITING of the grid changed. Half of the time of a small tail hangs on no token, and is spent half as often; what moved is a
    frame late in every second one.

    Raises:
        InputError: the buckets have no STILL: they are of no memory.
    """

    def __init__(self, buckets: Sequence[BucketEntry]):
        if all(bucket.name != STILL for bucket in buckets):
            raise InputError(
                "--chooser next-frame is of a memory between frames, which there is none of here; build with --memory, or "
                "leave it out"
            )
        self._buckets, self._most = list(buckets), WAITING * buckets[-1].first
        self._waited = False

    def __call__(self, count: int) -> str:
        chosen = smallest_holding(self._buckets, count).name
        self._waited = chosen != STILL and not self._waited and count <= self._most
        return STILL if self._waited else chosen


def fixed(buckets: Sequence[BucketEntry], name: str) -> Chooser:
    """The bucket called `name`, whatever the frame.

    Raises:
        InputError: no such bucket; names the choices and the nearest match.
    """
    choose({bucket.name: bucket for bucket in buckets}, name, "bucket")
    return lambda count: name


# the first is the default
CHOOSERS: dict[str, Callable[[Sequence[BucketEntry]], Chooser]] = {
    "in-frame": in_frame,
    "previous-frame": PreviousFrame,
    NEXT_FRAME: NextFrame,
}
OF_MEMORY = (NEXT_FRAME,)  # of frames that remember; those by themselves take the default then


def make_chooser(key: str, buckets: Sequence[BucketEntry]) -> Chooser:
    """A chooser for one run.

    Args:
        key: a key of CHOOSERS.
        buckets: of the manifest, smallest first.

    Raises:
        InputError: an unknown chooser; names the choices and the nearest match.
    """
    return choose(CHOOSERS, key, "bucket chooser")(buckets)

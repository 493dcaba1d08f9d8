"""Bucket choosers."""

import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import BucketEntry
from edgeprune.bundle.memory import STILL
from edgeprune.runtime.choose import CHOOSERS, NEXT_FRAME, fixed, make_chooser, smallest_holding

BUCKETS = [
    BucketEntry(name=name, counts=[first], first=first, token_layers=first)
    for name, first in (("small", 64), ("middle", 128), ("full", 200))
]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "small"), (64, "small"), (65, "middle"), (128, "middle"), (129, "full"), (200, "full"), (999, "full")],
)
def test_the_smallest_that_holds_the_count(count: int, expected: str) -> None:
    assert smallest_holding(BUCKETS, count).name == expected
    assert make_chooser("in-frame", BUCKETS)(count) == expected


def test_previous_frame_is_one_behind_and_begins_with_the_full_grid() -> None:
    chooser = make_chooser("previous-frame", BUCKETS)
    assert [chooser(count) for count in (10, 100, 200, 1)] == ["full", "small", "middle", "full"]


def test_buckets_for_budgets_are_none_that_a_frame_asks_for() -> None:
    """Few tokens over the threshold may be a frame that the model does not know; a budget, or a name, takes them."""
    marked = [BUCKETS[0].model_copy(update={"for_budgets": True}), *BUCKETS[1:]]
    chooser, behind = make_chooser("in-frame", marked), make_chooser("previous-frame", marked)
    assert [chooser(count) for count in (0, 64, 129)] == ["middle", "middle", "full"]
    assert [behind(count) for count in (0, 64, 129, 0)] == ["full", "middle", "middle", "full"]
    assert fixed(marked, "small")(200) == "small"
    # a device that dropped the others
    assert make_chooser("in-frame", marked[:1])(200) == "small"


MEMORY = [
    BucketEntry(name=name, counts=[], first=first, token_layers=first)
    for name, first in ((STILL, 0), ("m24", 24), ("m96", 96), ("m768", 768))
]


def test_next_frame_lets_what_changed_wait_for_one_frame() -> None:
    chooser = make_chooser(NEXT_FRAME, MEMORY)
    assert [chooser(count) for count in (20, 30, 10, 10, 0, 5, 5)] == [STILL, "m96", STILL, "m24", STILL, STILL, "m24"]
    # a scene that moves, or a new one, does not wait, and neither does what comes after it for longer
    assert [chooser(count) for count in (90, 768, 90, 300, 20, 20)] == [STILL, "m768", STILL, "m768", STILL, "m24"]


def test_next_frame_is_of_a_memory() -> None:
    with pytest.raises(
        InputError, match="next-frame is of a memory between frames, which there is none of here; build with"
    ):
        make_chooser(NEXT_FRAME, BUCKETS)


def test_fixed() -> None:
    chooser = fixed(BUCKETS, "middle")
    assert {chooser(count) for count in (0, 100, 200)} == {"middle"}


def test_unknown_choosers_and_buckets() -> None:
    with pytest.raises(InputError, match="unknown bucket 'midle'; choices: small, middle, full; did you mean 'middle'"):
        fixed(BUCKETS, "midle")
    for key in ("in-fram", "fixed"):  # what can't be typed is no choice
        with pytest.raises(
            InputError, match=f"unknown bucket chooser '{key}'; choices: in-frame, previous-frame, next-frame($|; did)"
        ):
            make_chooser(key, BUCKETS)


def test_the_default_is_listed_first() -> None:
    assert next(iter(CHOOSERS)) == "in-frame"

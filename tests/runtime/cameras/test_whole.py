"""Damage that a decoder conceals: what is flagged, and what is predicted from it."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune.runtime.cameras.whole import WholeFrames

PICTURE_TYPES = {"I": 1, "P": 2, "B": 3}


def frames(shown: str) -> list[Any]:
    """`I P* B`: in the order they are shown; a star is flagged, a K is a key frame."""
    return [
        SimpleNamespace(
            name=f"{word[0]}{index}",
            pict_type=PICTURE_TYPES["I" if word[0] == "K" else word[0]],
            key_frame=word[0] == "K",
            is_corrupt=word.endswith("*"),
        )
        for index, word in enumerate(shown.split())
    ]


def names(found: Iterable[Any]) -> str:
    return " ".join(frame.name for frame in found)


@pytest.mark.parametrize(
    ("shown", "whole", "damaged"),
    [
        ("K P P P", "K0 P1 P2 P3", 0),
        ("K P* P P K P", "K0 K4 P5", 3),  # up to the next key frame
        ("K B B P* B B P K", "K0 K7", 6),  # the B frames before it were predicted from it
        ("K B B* P B B P", "K0 P3 B4 B5 P6", 2),  # nothing is predicted from these but each other
        ("K P* B B K B P", "K0 K4 B5 P6", 3),  # B frames in front of a key frame look back too
        ("K* P P K", "K3", 3),
        ("K P B B", "K0 P1 B2 B3", 0),
    ],
)
def test_what_is_predicted_from_damage_is_left_out(shown: str, whole: str, damaged: int) -> None:
    filter_ = WholeFrames(references=True, hold=True)
    found = [frame for frame in frames(shown) for frame in filter_.take([frame])]
    assert names([*found, *filter_.end()]) == whole
    assert filter_.damaged == damaged


def test_frames_that_stand_for_themselves() -> None:
    filter_ = WholeFrames(references=False, hold=True)
    assert names(filter_.take(frames("K K* K"))) == "K0 K2"
    filter_.lose()
    assert names(filter_.take(frames("K"))) == "K0" and filter_.damaged == 2


def test_a_packet_that_is_lost_breaks_what_follows() -> None:
    filter_ = WholeFrames(references=True, hold=True)
    filter_.lose()
    assert names(filter_.take(frames("P P K P"))) == "K2 P3" and filter_.damaged == 3


def test_a_camera_waits_for_nothing() -> None:
    filter_ = WholeFrames(references=True, hold=False)
    assert names(filter_.take(frames("K B"))) == "K0 B1"

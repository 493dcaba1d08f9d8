"""Frames that follow each other, by their names."""

from pathlib import Path

import pytest

from edgeprune.data.clips import clips_in, clips_of
from edgeprune.data.street import CachedStreet, StreetSamples


@pytest.mark.parametrize(
    ("names", "clips"),
    [
        (["f9", "f10", "f11"], [["f9", "f10", "f11"]]),
        (["b_2", "a_1", "b_1", "a_2"], [["b_1", "b_2"], ["a_1", "a_2"]]),
        (["street-7-0000", "street-7-0001", "street-8-0000"], [["street-7-0000", "street-7-0001"], ["street-8-0000"]]),
        # every thirtieth frame was labelled, and three of a clip in the middle were left out
        (["d_0", "d_30", "d_60", "d_180", "d_210"], [["d_0", "d_30", "d_60"], ["d_180", "d_210"]]),
        # one frame in two is left out throughout: that is the usual step
        (["1", "3", "5", "7"], [["1", "3", "5", "7"]]),
        # a sensor's clock is not even
        (["16.10", "16.16", "16.25", "16.31", "17.4"], [["16.10", "16.16", "16.25", "16.31"], ["17.4"]]),
        (["4_rgb", "5_rgb", "5_depth"], [["4_rgb", "5_rgb"], ["5_depth"]]),
        (["day/3", "night/4"], [["day/3"], ["night/4"]]),
        (["first", "second"], [["first"], ["second"]]),
        ([], []),
    ],
)
def test_a_clip_is_of_one_name_and_has_no_holes(names: list[str], clips: list[list[str]]) -> None:
    found = [[names[place] for place in clip] for clip in clips_of(names)]
    assert sorted(found) == sorted(clips)


def test_equal_numbers_are_no_hole() -> None:
    assert clips_of(["1.0", "1.00", "1.000"]) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("frames", "clip", "clips"), [(3, 1, [[0], [1], [2]]), (5, 2, [[0, 1], [2, 3], [4]]), (2, 4, [[0, 1]])]
)
def test_the_street_knows_its_clips(frames: int, clip: int, clips: list[list[int]], tmp_path: Path) -> None:
    """Its scenes are called street-900000000, street-900000001, ..., and each is another street."""
    samples = StreetSamples(900000000, frames, 64, 96, clip=clip)
    assert clips_in(samples) == clips_in(CachedStreet(samples, tmp_path)) == clips

"""Things on a picture: fills, outlines, shades, names."""

import numpy as np
import pytest

from edgeprune.runtime.tasks.outlines import FILL, LEAST_LIGHT, SHADES, _light, eroded, shades
from tests.runtime.tasks.drawn import CAR, PALETTE, PERSON, ROAD, answer, mask, result, task

GREY = 100


def picture(things: list[tuple[int, float, np.ndarray]], height: int = 480, width: int = 720) -> np.ndarray:
    found = result(task(32, 48), answer(things), height, width, GREY)
    drawn_HW3 = found.overlay()
    assert drawn_HW3.shape == (height, width, 3) and drawn_HW3.dtype == np.uint8
    assert (found.frame.image_HW3 == GREY).all()  # the frame itself is left alone
    return drawn_HW3.astype(int)


def test_a_thing_has_a_light_fill_and_an_outline_and_the_rest_stays_as_it_is() -> None:
    drawn_HW3 = picture([(PERSON, 0.9, mask(slice(2, 6), slice(3, 9)))])  # rows 120 to 360, columns 180 to 540
    colour = np.array(PALETTE[PERSON])
    filled = GREY + (colour - GREY) * FILL / 255
    assert np.abs(drawn_HW3[240, 300] - filled).max() <= 1
    row = drawn_HW3[240]
    assert np.abs(row[180:182] - colour).max() == 0 and np.abs(row[538:540] - colour).max() == 0
    assert np.abs(row[183] - filled).max() <= 1
    assert (row[:180] == GREY).all() and (row[540:] == GREY).all()


def test_things_of_a_class_are_told_apart_and_keep_their_shade_whatever_they_score() -> None:
    columns = [mask(slice(2, 6), slice(first, first + 2)) for first in (0, 4, 8)]
    scores = ([0.9, 0.8, 0.7], [0.7, 0.9, 0.8])
    pictures = [picture([(PERSON, score, each) for score, each in zip(some, columns, strict=True)]) for some in scores]
    places = (60, 300, 540)
    middles = [[tuple(drawn_HW3[300, place]) for place in places] for drawn_HW3 in pictures]
    assert len(set(middles[0])) == 3 and middles[0] == middles[1]


def test_no_shade_is_too_dark_to_be_seen() -> None:
    things = [
        (class_id, 0.9, mask(slice(0, 8), slice(place, place + 1))) for class_id in (CAR, ROAD) for place in range(6)
    ]
    found = result(task(32, 48), answer(things), 480, 720).things
    colours = shades(found, PALETTE)
    assert len(colours) == 12 and min(map(_light, colours)) >= LEAST_LIGHT - 1
    of_cars = [colour for thing, colour in zip(found, colours, strict=True) if thing.class_id == CAR]
    assert len(set(of_cars)) == len(SHADES)  # the sixth is as the first


def test_the_better_thing_lies_over_the_other() -> None:
    drawn_HW3 = picture([(PERSON, 0.6, mask(slice(1, 7), slice(2, 8))), (ROAD, 0.9, mask(slice(3, 5), slice(4, 12)))])
    outline = np.array(PALETTE[ROAD])
    assert np.abs(drawn_HW3[180:183, 360] - outline).max(1).min() == 0  # across the person


def test_a_name_is_written_where_there_is_room() -> None:
    low, high = (
        picture([(PERSON, 0.9, mask(slice(4, 6), slice(3, 9)))]),
        picture([(PERSON, 0.9, mask(slice(0, 6), slice(3, 9)))]),
    )
    ground = np.array(PALETTE[PERSON])
    above = (low[225:239, 182:240] == ground).all(-1).mean()
    assert above > 0.3 and (low[100:200, 180:300] == GREY).all()
    inside = (high[27:42, 182:240] == ground).all(-1).mean()
    assert inside > 0.3  # under the status line, not over it
    crowd = [(PERSON, 0.9 - 0.01 * number, mask(slice(2, 6), slice(3, 9))) for number in range(20)]
    assert picture(crowd).shape == (480, 720, 3)  # names that have no room are left out


@pytest.mark.parametrize(("height", "width"), [(16, 24), (50, 60), (97, 131), (720, 1280), (300, 40)])
def test_pictures_of_any_size(height: int, width: int) -> None:
    everything = [(CAR, 0.9, np.ones((8, 12), bool)), (PERSON, 0.8, mask(slice(0, 1), slice(0, 1)))]
    for things in ([], everything):
        assert picture(things, height, width).shape == (height, width, 3)


def test_the_status_line_says_how_many_there_are_and_the_legend_is_there() -> None:
    none, one = picture([]), picture([(CAR, 0.9, mask(slice(3, 5), slice(5, 7)))])
    changed_rows = np.flatnonzero((none != one).any((1, 2)))
    assert changed_rows.min() < 20 and changed_rows.max() < 400
    assert (none[-3, ::7].max(-1) < 90).mean() > 0.5  # the legend's bar


def test_erosion_takes_the_border_of_the_mask_not_of_the_picture() -> None:
    mask_HW = mask(slice(0, 5), slice(2, 9))
    inner_HW = np.zeros((8, 12), bool)
    inner_HW[0:3, 4:7] = True
    assert np.array_equal(eroded(mask_HW, 2), inner_HW)

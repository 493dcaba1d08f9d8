"""Polygons and run lengths: the pixels whose centres are inside, by the even-odd rule."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgeprune.data.polygons import decode_runs, from_runs, paint
from tests.data.layouts.drawn import compress


def painted(points: list[tuple[float, float]], height: int = 6, width: int = 8) -> list[str]:
    label_HW = np.zeros((height, width), np.uint8)
    paint(label_HW, np.array(points, np.float64), 1)
    return ["".join(".#"[pixel] for pixel in row) for row in label_HW]


def test_a_pixel_is_inside_where_its_centre_is() -> None:
    assert painted([(1, 1), (4, 1), (4, 3), (1, 3)], 4, 5) == [".....", ".###.", ".###.", "....."]
    assert painted([(1.4, 1), (3.6, 1), (3.6, 3), (1.4, 3)], 4, 5) == [".....", ".###.", ".###.", "....."]
    assert painted([(1.6, 1), (3.4, 1), (3.4, 3), (1.6, 3)], 4, 5) == [".....", "..#..", "..#..", "....."]
    assert painted([(0, 0), (4, 0), (0, 4)], 4, 4) == ["###.", "##..", "#...", "...."]  # neighbours share no pixel
    assert painted([(4, 0), (4, 4), (0, 4)], 4, 4) == ["...#", "..##", ".###", "####"]


def test_what_leaves_the_image_is_cut_off() -> None:
    assert painted([(-5, -5), (50, -5), (50, 50), (-5, 50)], 3, 4) == ["####"] * 3
    assert painted([(2, 1), (50, 1), (50, 2), (2, 2)], 3, 4) == ["....", "..##", "...."]
    assert (
        painted([(20, 1), (50, 1), (50, 2), (20, 2)], 3, 4)
        == painted([(-9, 1), (-2, 1), (-2, 2)], 3, 4)
        == ["...."] * 3
    )
    assert painted([(1, 1), (1, 1), (1, 1)], 3, 4) == ["...."] * 3


def test_a_hole_on_a_bridge_stays_one() -> None:
    outline = [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0)]
    hole = [(2, 2), (4, 2), (4, 4), (2, 4), (2, 2)]
    assert painted([*outline, *hole], 6, 6) == ["######", "######", "##..##", "##..##", "######", "######"]


# What pycocotools 2.0.11 draws of outlines that leave the image, bend inward and cross themselves, and its run lengths.
# (It rounds outlines, so not every one is drawn alike to the pixel.)
OF_PYCOCOTOOLS = [
    (
        [(14.2, 11.3), (17.1, 8.9), (9.6, -0.5), (7.1, 4.3), (-2.0, 1.5)],
        "21:0O0010O01O1O0N3M210000O1O2N1O",
        """
        .........#......
        .........##.....
        #.......####....
        .###....#####...
        ...###########..
        .....#########..
        ......#########.
        ........########
        ..........######
        ...........#####
        """,
    ),
    (
        [(14.6, 1.0), (0.3, -0.1), (11.2, 11.0), (6.3, 9.5), (1.6, 8.3)],
        ":191MOK23OM22NN30N0<1DO03OM14NL1700O10c0",
        """
        .#######........
        ..############..
        ...#########....
        ....######......
        .....###........
        ......#.........
        .....##.........
        ...#####........
        ..#######.......
        ......####......
        """,
    ),
]


@pytest.mark.parametrize(("points", "runs", "drawn"), OF_PYCOCOTOOLS)
def test_outlines_and_run_lengths_are_drawn_as_pycocotools_draws_them(
    points: list[tuple[float, float]], runs: str, drawn: str
) -> None:
    rows = drawn.split()
    assert painted(points, 10, 16) == rows
    mask_HW = from_runs(decode_runs(runs), 10, 16)
    assert ["".join(".#"[pixel] for pixel in row) for row in mask_HW.astype(int)] == rows


def test_large_polygons_agree_with_a_drawing_at_a_finer_scale() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        points_N2 = draw.uniform(-10, 110, (9, 2))
        label_HW = np.zeros((100, 100), np.uint8)
        paint(label_HW, points_N2, 1)
        fine = Image.new("1", (1500, 1500))  # the same, 15 pixels a pixel
        ImageDraw.Draw(fine).polygon([(15 * x, 15 * y) for x, y in points_N2], fill=1)
        centres_HW = np.asarray(fine)[7::15, 7::15]
        assert (centres_HW != label_HW).mean() < 0.005


def test_run_lengths_go_down_the_columns() -> None:
    mask_HW = from_runs([1, 2, 3], 3, 2)
    assert mask_HW.astype(int).tolist() == [[0, 0], [1, 0], [1, 0]]
    with pytest.raises(ValueError, match="cover 5 pixels of 6"):
        from_runs([1, 2, 2], 3, 2)
    with pytest.raises(ValueError, match="pixels of"):
        from_runs([-1, 7], 3, 2)


def test_compressed_run_lengths_are_those_that_were_written() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        runs = [int(run) for run in draw.integers(0, 10 ** int(draw.integers(1, 7)), 30)]
        assert decode_runs(compress(runs)) == runs
    assert decode_runs("") == []
    with pytest.raises(ValueError, match="cut off"):
        decode_runs("o")
    with pytest.raises(ValueError, match="is no character"):
        decode_runs("!")

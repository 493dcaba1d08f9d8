"""A region of interest: its text, its cells, its pixels, and the image that it is read from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict, parse
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region, Rows, read_mask

ROWS = ["......", "...#..", "######", "####.."]


def test_a_region_is_what_its_rows_say() -> None:
    region = Region.of(ROWS)
    assert region is not None and Region.of(None) is None
    assert (region.grid, region.tokens, region.share) == ((4, 6), 11, 11 / 24)
    assert region.inside_GG[1].tolist() == [False, False, False, True, False, False]
    assert Region.of_patches(region.inside_GG) == region


def test_it_is_rounded_outwards_to_whole_cells() -> None:
    region = Region(tuple(ROWS))
    assert region.in_cells(1) == region
    assert region.in_cells(2).rows == ("..##..", "..##..", "######", "######")
    assert region.in_cells(2).in_cells(2) == region.in_cells(2)


def test_pixels_are_those_of_its_patches_at_any_resolution() -> None:
    inside_HW = Region(tuple(ROWS)).pixels(32, 48)
    assert inside_HW.shape == (32, 48) and inside_HW.sum() == 11 * 8 * 8
    assert inside_HW[8:16, 24:32].all() and not inside_HW[8:16, :24].any()


class File(Strict):
    region: Rows | None = None


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["##", "#"], "rows of 1 to 2 patches"),
        (["..", ".."], "no patch is inside; write # where one is"),
        (["#x"], 'expected # and . in quotes, such as ".##.": YAML takes an unquoted # for a comment'),
        ([None], "expected # and . in quotes"),  # - ####
        ([], "at least 1 item"),
        (["#\n"], "expected # and . in quotes"),
        ("##", "valid list"),
    ],
)
def test_rows_that_are_no_region_are_refused(rows: object, problem: str) -> None:
    with pytest.raises(InputError, match=f"calib.yaml: region.*{problem}"):
        parse(File, {"region": rows}, "calib.yaml")


def drawn(folder: Path, height: int, width: int, *boxes: tuple[int, int, int, int]) -> Path:
    """A mask that is grey in boxes (top, left, bottom, right) and black elsewhere."""
    mask_HW = np.zeros((height, width), np.uint8)
    for top, left, bottom, right in boxes:
        mask_HW[top:bottom, left:right] = 90
    Image.fromarray(mask_HW).save(folder / "mask.png")
    return folder / "mask.png"


def test_a_patch_that_the_mask_touches_is_inside(tmp_path: Path) -> None:
    """Frames and mask are twice the input's size; the box reaches two pixels into the third column of patches."""
    mask = drawn(tmp_path, 128, 192, (64, 0, 128, 68))
    found = read_mask(mask, Preprocess(64, 96), 16)
    assert found.region.rows == ("......", "......", "###...", "###...")
    for height, width in ((128, 192), (256, 384)):  # of the frames; or their aspect
        found.check_frame(np.zeros((height, width, 3), np.uint8))
    with pytest.raises(
        InputError, match="region .*mask.png is 192x128 pixels, the frames are 160x90: expected .* aspect"
    ):
        found.check_frame(np.zeros((90, 160, 3), np.uint8))


def test_a_wide_frame_is_fitted_as_frames_are(tmp_path: Path) -> None:
    """It has bars above and below in the input: they are outside, though all of the frame matters."""
    mask = drawn(tmp_path, 48, 192, (0, 0, 48, 192))
    assert read_mask(mask, Preprocess(64, 96), 16).region.rows == ("......", "######", "######", "......")


def test_a_black_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="region .*: nothing matters, every pixel is black; paint white what matters"):
        read_mask(drawn(tmp_path, 128, 192), Preprocess(64, 96), 16)


def test_a_line_of_a_single_pixel_in_a_large_mask_is_seen(tmp_path: Path) -> None:
    mask = drawn(tmp_path, 1280, 1920, (101, 0, 102, 1920), (1279, 5, 1280, 6))
    assert read_mask(mask, Preprocess(64, 96), 16).region.rows == ("######", "......", "......", "#.....")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (96, 64), "white").save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png has transparent pixels; save it without an alpha channel"):
        read_mask(tmp_path / "mask.png", Preprocess(64, 96), 16)

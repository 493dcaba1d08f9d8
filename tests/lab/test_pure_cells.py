"""How few tokens labels need."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.lab.pure_cells import count_pure, left_by_side
from tests import models


def test_cells_of_one_class_share_a_token() -> None:
    label_HW = np.zeros((4 * 16, 8 * 16), np.uint8)  # 4x8 patches
    assert left_by_side(label_HW, [4, 2]) == [2, 2]
    label_HW[0, 0] = 1  # the first 4x4 is mixed, and of its 2x2 the first
    assert left_by_side(label_HW, [4, 2]) == [1 + 16, 1 + 4 + 3]
    assert left_by_side(label_HW, [2]) == [7 + 4]
    label_HW[:, ::16] = 2  # every patch holds an edge
    assert left_by_side(label_HW, [4, 2]) == [32, 32]


def test_shares_are_of_the_image() -> None:
    found = count_pure("street-small:192x256", "val", 3)
    assert found.tokens == 192 and found.tenth <= found.left <= found.ninetieth <= 100
    gone = sum(share * (1 - int(side) ** -2) for side, share in found.merged.items())
    assert set(found.merged) == {"8", "4", "2"} and 0 < sum(found.merged.values()) <= 100 and gone < 100
    with pytest.raises(InputError, match="such as camvid:384x512"):
        count_pure("street:wide", "val", 3)


def test_frames_of_several_sizes_need_one_behind_the_name(tmp_path: Path) -> None:
    data, blank = models.write_frames(tmp_path, 3), np.zeros((96, 64), np.uint8)
    Image.fromarray(blank).save(tmp_path / "labels" / "0-002.png")
    Image.fromarray(np.repeat(blank[..., None], 3, axis=2)).save(tmp_path / "images" / "0-002.png")
    with pytest.raises(InputError, match="its frames are 64x96 and 96x64; give one size for all, such as .*:384x512"):
        count_pure(data, "train", 3)
    assert count_pure(f"{data}:64x96", "train", 3).tokens == 24

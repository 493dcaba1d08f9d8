"""Components by runs against scipy's, and against what one sees."""

import numpy as np
import pytest

from edgeprune.evaluate.components import connected_components


def test_corners_join_and_other_ids_part() -> None:
    ids_HW = np.array(
        [
            [1, 0, 0, 2],
            [0, 1, 0, 2],
            [2, 0, 1, 1],
            [2, 2, 0, 0],
        ],
        np.uint8,
    )
    found = connected_components(ids_HW)
    assert list(zip(found.id_K.tolist(), found.area_K.tolist(), strict=True)) == [(1, 4), (0, 7), (2, 2), (2, 3)]
    assert found.of_HW.tolist() == [[0, 1, 1, 2], [1, 0, 1, 2], [3, 1, 0, 0], [3, 3, 1, 1]]


def test_a_row_does_not_go_on_in_the_next() -> None:
    found = connected_components(np.array([[0, 0, 1], [1, 0, 0], [0, 0, 1]], np.uint8))
    assert found.of_HW.tolist() == [[0, 0, 1], [2, 0, 0], [0, 0, 3]]


@pytest.mark.parametrize("ids", [2, 3, 6])
def test_components_are_those_of_scipy(ids: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy")
    random = np.random.default_rng(ids)
    for side in range(1, 40):
        ids_HW = random.integers(0, ids, (side, 41 - side)).astype(np.uint8)
        ids_HW = ids_HW.repeat(side % 3 + 1, 1)
        found, total = connected_components(ids_HW), 0
        for index in range(ids):
            expected_HW, count = ndimage.label(ids_HW == index, np.ones((3, 3)))
            pairs = {*zip(found.of_HW[ids_HW == index], expected_HW[ids_HW == index], strict=True)}
            assert len(pairs) == count == len({one for one, _ in pairs})
            total += count
        assert len(found.area_K) == total
        assert np.array_equal(np.bincount(found.of_HW.ravel()), found.area_K)
        assert np.array_equal(found.id_K[found.of_HW], ids_HW)

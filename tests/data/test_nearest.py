"""Label maps at another size."""

import numpy as np
from PIL import Image

from edgeprune.data.nearest import resize_nearest


def test_resize_nearest_takes_the_value_at_the_centre() -> None:
    # of an odd size, so that no centre falls between two pixels, where Pillow's floats would decide
    ids_HW = np.random.default_rng(0).integers(0, 11, (37, 53), np.uint8)
    for height, width in ((36, 48), (10, 13), (80, 91)):
        expected = np.array(Image.fromarray(ids_HW).resize((width, height), Image.Resampling.NEAREST))
        assert np.array_equal(resize_nearest(ids_HW, height, width), expected)
    assert resize_nearest(np.array([[1, 2, 3, 4]]), 2, 2).tolist() == [[2, 4], [2, 4]]
    assert resize_nearest(ids_HW, 37, 53) is ids_HW

"""What a model finds, drawn."""

import numpy as np

from edgeprune.data.preprocess import Preprocess
from edgeprune.pruning.found_picture import draw_found
from edgeprune.pruning.one_frame import label_map_of, outputs_of, predict
from edgeprune.pruning.token_pictures import outline_of
from edgeprune.runtime.tasks import find_task
from edgeprune.runtime.tasks.overlay import Overlay
from tests import models
from tests.export import instances


def test_things_are_outlined_and_areas_are_filled() -> None:
    frame_HW3 = models.frames(1)[0]
    size = (models.HEIGHT, models.WIDTH)
    card = instances.card(depth=3, stem="conv")
    model = instances.model(card, seed=4)
    raw = predict(model, frame_HW3, None).raw
    things = find_task("instance").find_things(outputs_of(model.head, raw), card.names, Preprocess.of(model.spec), size)
    assert things
    found = draw_found(model, card, frame_HW3, raw, "what is told")
    assert found.outline_HW is not None and found.outline_HW.any()
    assert np.array_equal(found.outline_HW, outline_of((thing.mask_HW for thing in things), size))
    assert (found.picture_HW3 != frame_HW3)[found.outline_HW].any(-1).mean() > 0.5

    of_areas, described = models.model(), models.card()
    raw = predict(of_areas, frame_HW3, None).raw
    areas = draw_found(of_areas, described, frame_HW3, raw, "what is told")
    label_HW = label_map_of(of_areas, raw).repeat(2, 0).repeat(2, 1)
    overlay = Overlay(described.names, described.palette)
    assert areas.outline_HW is None
    assert np.array_equal(areas.picture_HW3, overlay.draw(frame_HW3, label_HW, "what is told"))

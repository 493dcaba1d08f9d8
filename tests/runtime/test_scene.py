"""How much of a frame changed, told on the host."""

import numpy as np

from edgeprune.runtime.scene import CUT, SceneChange
from tests import models

SIZE = (480, 640)  # as a camera sends them


def noisy(frame_HW3: np.ndarray, levels: float, seed: int) -> np.ndarray:
    found = frame_HW3 + np.random.default_rng(seed).normal(0, levels, frame_HW3.shape)
    return found.clip(0, 255).astype(np.uint8)


def test_noise_is_no_change_and_a_cut_is_one() -> None:
    first_HW3, other_HW3 = (models.scene(seed, 384, 512)[0] for seed in (1, 2))
    scene = SceneChange()
    assert scene.look(first_HW3, SIZE) == 1.0
    assert scene.look(first_HW3, SIZE) == 0.0
    assert scene.look(noisy(first_HW3, 4, 1), SIZE) < 0.01
    assert scene.look(noisy(first_HW3, 4, 2), SIZE) < 0.01
    assert scene.look(other_HW3, SIZE) > CUT
    assert scene.look(np.clip(other_HW3 * 1.4, 0, 255).astype(np.uint8), SIZE) > CUT  # a jump of exposure


def test_what_moves_is_as_large_as_it_is() -> None:
    first_HW3, other_HW3 = (models.scene(seed, 384, 512)[0] for seed in (1, 2))
    moved_HW3 = first_HW3.copy()
    moved_HW3[96:192, 128:256] = other_HW3[96:192, 128:256]  # a sixteenth
    scene = SceneChange()
    scene.look(first_HW3, SIZE)
    assert 0.02 < scene.look(moved_HW3, SIZE) <= 0.0626


def test_frames_that_a_camera_sends_in_another_size_are_another_scene() -> None:
    scene, frame_HW3 = SceneChange(), models.scene(1, 384, 512)[0]
    scene.look(frame_HW3, SIZE)
    assert scene.look(frame_HW3, (720, 1280)) == 1.0
    assert scene.look(frame_HW3, (720, 1280)) == 0.0

"""Near-duplicate frames across splits: neighbours in one video are told, unlike frames are not."""

import numpy as np
import pytest

from edgeprune.data import street
from edgeprune.data.duplicates import FrameHashes, find_leak
from edgeprune.data.samples import UInt8


def hashes(frames: dict[str, UInt8]) -> FrameHashes:
    found = FrameHashes()
    for name, image_HW3 in frames.items():
        found.add(name, image_HW3)
    return found


def scene(seed: int) -> UInt8:
    return street.StreetSamples(seed, 1, 96, 128)[0].image_HW3


def test_a_neighbour_is_told_and_another_scene_is_not() -> None:
    train = {f"t{seed}": scene(seed) for seed in range(6)}
    noise = np.random.default_rng(0).integers(-6, 7, train["t3"].shape)
    moved = np.roll(train["t3"].astype(int) + noise, 1, axis=1).clip(0, 255).astype(np.uint8)
    leak = find_leak(hashes({"v0": scene(100), "v1": moved, "v2": scene(101)}), hashes(train))
    assert leak is not None and (leak.frames, leak.of, leak.example) == (1, 3, ("v1", "t3"))
    assert 0 < leak.bits <= 32 and leak.share == 1 / 3
    assert find_leak(hashes({"v0": scene(100)}), hashes(train)) is None
    assert find_leak(hashes({}), hashes(train)) is None is find_leak(hashes(train), hashes({}))


def test_a_frame_costs_a_few_bytes_whatever_its_size() -> None:
    frames = hashes({"small": scene(0), "large": np.repeat(np.repeat(scene(1), 8, 0), 8, 1)})
    assert len(frames.packed) == 2 * 32


def test_frames_are_compared_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    train = hashes({f"t{seed}": scene(seed) for seed in range(5)})
    whole = find_leak(train, train)
    monkeypatch.setattr("edgeprune.data.duplicates.CHUNK", 2)
    assert find_leak(train, train) == whole and whole is not None and whole.frames == 5

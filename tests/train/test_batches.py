"""The sampler of batches, and what is read for them."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.held_out import HeldOut
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.street import CachedStreet
from edgeprune.train.batches import Mixture, MixtureSampler, OwnParts, load_batches, open_mix
from edgeprune.train.leave_out import leave_out
from edgeprune.train.phases import train
from edgeprune.train.recipe import Mix, Validation
from tests import models


def mixes(*shares: float) -> list[Mix]:
    return [Mix(data="street", share=share) for share in shares]


def test_shares_are_met() -> None:
    sampler = MixtureSampler(mixes(3, 1), [50, 70], batch=8, steps=500, seed=0)
    counts = Counter(split for batch in sampler for split, _ in batch)
    assert counts[0] / (counts[0] + counts[1]) == pytest.approx(0.75, abs=0.02)
    assert all(len(batch) == 8 for batch in sampler) and len(sampler) == 500


def test_every_sample_comes_once_per_epoch_in_a_new_order() -> None:
    sampler = MixtureSampler(mixes(1, 1), [13, 5], batch=4, steps=60, seed=0)
    drawn = [key for batch in sampler for key in batch]
    for split, size in enumerate((13, 5)):
        indices = [index for found, index in drawn if found == split]
        epochs = [indices[start : start + size] for start in range(0, len(indices) - size + 1, size)]
        assert len(epochs) > 5
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 3


def test_the_sampler_depends_on_the_seed_alone() -> None:
    def batches(seed: int, start: int = 0) -> list[list[tuple[int, int]]]:
        return list(MixtureSampler(mixes(1, 2), [13, 5], batch=4, steps=20, seed=seed, start=start))

    assert batches(0) == batches(0) != batches(1)


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_a_resumed_sampler_goes_on_with_the_same_batches(start: int) -> None:
    whole = MixtureSampler(mixes(1, 2), [13, 5], batch=4, steps=20, seed=3)
    rest = MixtureSampler(mixes(1, 2), [13, 5], batch=4, steps=20, seed=3, start=start)
    assert list(rest) == list(whole)[start:] and len(rest) == 20 - start
    assert rest[start - 1] == whole[start - 1]


def test_batches_are_the_samplers_samples_at_the_models_size(tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    sets, splits = open_mix([Mix(data=data), Mix(data=data, split="val")], tmp_path / "cache")
    sampler = MixtureSampler(mixes(1, 1), [len(split) for split in splits], batch=3, steps=2, seed=0)
    for keys, (images_B3HW, labels_BHW) in zip(
        sampler, load_batches(Mixture(splits, Preprocess(64, 96), 11), sampler, 0), strict=True
    ):
        assert images_B3HW.dtype == labels_BHW.dtype == torch.uint8
        for (split, index), image_3HW, label_HW in zip(keys, images_B3HW, labels_BHW, strict=True):
            image_HW3, expected_HW = models.scene((0, 5000)[split] + index)
            assert np.array_equal(image_3HW.permute(1, 2, 0), image_HW3) and np.array_equal(label_HW, expected_HW)
    assert list((tmp_path / "cache").iterdir())
    small, _ = Mixture(splits, Preprocess(32, 48), 11)[0, 0]
    assert small.shape == (3, 32, 48) and sets[0].names == models.STREET.names


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_share_the_batches_of_one(processes: int, accumulate: int) -> None:
    """However many they are, from whatever step on, a part of a batch has the same samples."""
    sampler = MixtureSampler(mixes(1, 2), [13, 5], batch=8, steps=20, seed=3, start=7)
    shares = [OwnParts(sampler, accumulate, index, processes) for index in range(processes)]
    assert {(len(share), share.batch) for share in shares} == {(13 * accumulate, 8 // (processes * accumulate))}
    parts = [[*chain(*part)] for part in zip(*shares, strict=True)]
    assert [[*chain(*parts[at : at + accumulate])] for at in range(0, len(parts), accumulate)] == list(sampler)


def test_wide_frames_are_trained_on_as_a_run_sees_them() -> None:
    """Between bars of which no label is learnt, not stretched."""
    image_HW3, label_HW = (part[:48] for part in models.scene(0))  # 2:1 in 3:2
    small, label_hw = Mixture([[Sample("wide", image_HW3, label_HW)]], Preprocess(32, 48), 11)[0, 0]  # type: ignore[list-item]
    assert np.array_equal(small.permute(1, 2, 0), Preprocess(32, 48).fit(image_HW3))
    bars_hw = np.ones((32, 48), bool)
    bars_hw[4:28] = False
    assert (label_hw.numpy()[bars_hw] == 11).all() and set(np.unique(label_hw[4:28])) <= set(np.unique(label_HW))


def test_data_sets_of_different_classes_are_not_mixed(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    from_street = models.write_street(tmp_path)
    other.write_text(Path(from_street).read_text().replace("name: street", "name: other").replace("- sky", "- heaven"))
    with pytest.raises(InputError, match="data sets street and other have different classes and can't be mixed"):
        open_mix([Mix(data=from_street), Mix(data=str(other))], None)


# ------------------------------------------------------------------------------------------------ so many images


def test_so_many_images_are_spread_evenly_over_what_is_left(tmp_path: Path) -> None:
    data = models.write_frames(tmp_path, 40)  # 0-000 to 3-039
    held_out = Validation(data=data, split="train", exclude=["3-*"], hold_out=0.2).held_out
    assert held_out is not None

    def numbers(out: HeldOut | None = None, **keys: Any) -> list[int]:
        _, (split,) = open_mix([Mix(data=data, **keys)], None, out)
        assert [split[index].name for index in range(len(split))] == split.names
        return [int(name[2:]) for name in split.names]

    assert numbers(images=4) == [0, 13, 26, 39] and numbers(images=40) == numbers()
    left = numbers(held_out, include=["0-*", "1-*"], exclude=["*9"])
    taken = numbers(held_out, include=["0-*", "1-*"], exclude=["*9"], images=3)
    assert taken == [left[0], left[(len(left) - 1) // 2], left[-1]] and len(left) == 14
    recipe = models.changed(models.recipe(tmp_path), "dense", data=[{"data": data, "images": 3}])
    (mix,) = leave_out(recipe, f"{data}:0-*").phases["dense"].data
    assert open_mix([mix], None)[1][0].names == ["1-010", "2-024", "3-039"]


def test_of_the_street_the_first_scenes_are_taken_and_keep_their_cache(tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    _, (some, every) = open_mix([Mix(data=data, images=3), Mix(data=data)], tmp_path / "cache")
    assert some.names == every.names[:3] == ["street-0", "street-1", "street-2"]
    assert isinstance(some, CachedStreet) and isinstance(every, CachedStreet) and some.path == every.path


def test_more_images_than_there_are_is_one_line(tmp_path: Path) -> None:
    recipe = models.recipe(
        tmp_path, validation={"data": models.write_street(tmp_path), "split": "train", "hold_out": 0.25}
    )
    recipe.phases["dense"].data[0].images = 7
    with pytest.raises(
        InputError, match="^images is 7, and data set .* has 6 frames to train on in its split train; set images to 6"
    ):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""What a phase shows of the frame before."""

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import SHARES, computed_counts
from edgeprune.data.held_out import held_out_names
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.street import CachedStreet, StreetSamples, renderer_version
from edgeprune.train import trainer as module
from edgeprune.train.batches import Mixture, earlier_samples, open_mix
from edgeprune.train.frames_before import (
    augment_both,
    choose_changed,
    disturbed,
    is_remembered,
    see,
    with_pieces,
)
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Mix, Phase, Recipe
from edgeprune.train.tasks.semantic import Semantic
from tests import models
from tests.models import changed

SIZE = (models.HEIGHT, models.WIDTH)


def clips(folder: Path, clip: int = 4) -> str:
    """The YAML of a street seen by cameras that stand."""
    content = yaml.safe_load(Path(models.write_street(folder)).read_text())
    content["train"]["clip"] = clip
    path = folder / "clips.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def task(tmp_path: Path, **augment: Any) -> Semantic:
    recipe = changed(models.recipe(tmp_path), "dense", augment=augment)
    return Semantic(recipe, recipe.phases["dense"], models.STREET, [1 / 11] * 11, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------ where it is from


def test_a_clip_is_of_one_street_whose_camera_stands(tmp_path: Path) -> None:
    samples = StreetSamples(40, 8, 64, 96, clip=4)
    assert samples.names[3:5] == ["street-40-3", "street-41-0"] and samples.origin(5).endswith("scene 41")
    frames = [sample.label_HW.astype(int) for sample in samples]
    same = [(one == other).mean() for one, other in pairwise(frames)]
    assert min(same[:3] + same[4:]) > 0.8 > same[3]
    assert any(not np.array_equal(samples[index].image_HW3, samples[index + 1].image_HW3) for index in range(3))
    cached = CachedStreet(samples, tmp_path)
    for index in (5, 5):  # rendered, then read
        assert cached[index].name == "street-41-1" and np.array_equal(cached[index].label_HW, samples[index].label_HW)
    assert cached.path != CachedStreet(StreetSamples(40, 8, 64, 96), tmp_path).path
    assert renderer_version(clips=True) != renderer_version()  # these hang on code of their own
    assert [sample.name for sample in samples.some(range(4, 8))] == samples.names[4:]


def test_whole_clips_are_held_out() -> None:
    assert held_out_names(StreetSamples(0, 16, 64, 96, clip=8), 0.05) == [f"street-1-{place}" for place in range(8)]
    with pytest.raises(
        InputError, match=r"whole clips, and 0\.5 of 15 frames in clips of 8 leaves none .* hold_out to less"
    ):
        held_out_names(StreetSamples(0, 15, 64, 96, clip=8), 0.5)


def test_the_frame_before_is_so_many_samples_earlier_and_of_the_same_clip(tmp_path: Path) -> None:
    folder = models.write_street(tmp_path)
    mix = [Mix(data=clips(tmp_path), before=2), Mix(data=folder)]
    _, splits = open_mix(mix, None)
    mixture = Mixture(splits, Preprocess(*SIZE), 11, before=[each.before for each in mix])
    for index, earlier in ((1, 1), (2, 0), (3, 1), (5, 5), (6, 4)):
        pair_23HW, _ = mixture[0, index]
        for found_3HW, place in zip(pair_23HW, (index, earlier), strict=True):
            assert np.array_equal(found_3HW.permute(1, 2, 0), splits[0][place].image_HW3)
    alone_23HW, _ = mixture[1, 3]
    assert torch.equal(alone_23HW[0], alone_23HW[1])
    plain = Mixture(splits, Preprocess(*SIZE), 11)
    assert mixture.sample_bytes - plain.sample_bytes == 3 * SIZE[0] * SIZE[1] and plain[0, 1][0].ndim == 3


def test_files_follow_each_other_as_they_were_filmed() -> None:
    """By the numbers in their names, which need no zeros before them: in lists, frame 10 comes before frame 9. Not over the end
    of a clip, nor over what a glob leaves out."""

    class Files:
        names: ClassVar = ["a-10", "a-11", "a-31", "a-9", "b-32"]

    assert earlier_samples(cast(Any, Files()), 1) == {0: 3, 1: 0}
    assert earlier_samples(cast(Any, Files()), 2) == {1: 3} and not earlier_samples(cast(Any, Files()), 3)


def test_frames_that_do_not_follow_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every frame is of another street; take one out"):
        open_mix([Mix(data="street", before=1)], None)
    with pytest.raises(InputError, match=r"before is 4, and no frame of .* its longest clip has 4; set before to 1"):
        open_mix([Mix(data=clips(tmp_path), before=4)], None)
    files = models.write_frames(tmp_path, 4)
    with pytest.raises(InputError, match=r"before is 9, and no frame of .* its longest clip has 4; set before to 1"):
        open_mix([Mix(data=files, before=9)], None)
    for file in sorted(tmp_path.rglob("*.png")):
        file.rename(file.with_stem(f"{'abcdefgh'[int(file.stem[-1])]}"))
    with pytest.raises(
        InputError, match="longest clip has 1; name the frames of a clip alike but for their last number"
    ):
        open_mix([Mix(data=files, before=1)], None)
    with pytest.raises(
        InputError, match="before is 1, and frames of .* do not follow each other: `images` leaves some out"
    ):
        open_mix([Mix(data=files, before=1, images=2)], None)


# ------------------------------------------------------------------------------------------------ what it looks like


def test_both_are_under_one_window_flip_and_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.train.frames_before.disturbed", lambda images_B3HW: images_B3HW)
    pixels = torch.randint(0, 256, (3, 1, 3, *SIZE), dtype=torch.uint8)
    frames_B23HW = pixels.repeat(1, 2, 1, 1, 1)
    frames_B23HW[:, 1, :, 0, 0] ^= 255  # so that none is alone
    labels_BHW = torch.randint(0, 11, (3, *SIZE), dtype=torch.uint8)
    torch.manual_seed(1)
    images_B3HW, targets_BHW, before_B3HW = augment_both(
        task(tmp_path, colour=1.0, noise=1.0), frames_B23HW, labels_BHW
    )
    assert (images_B3HW - before_B3HW).abs().flatten(1).median(1).values.max() == 0
    assert not torch.equal(images_B3HW, pixels[:, 0].float())
    assert targets_BHW.shape == labels_BHW.shape and targets_BHW.dtype == torch.int64
    alone = see(task(tmp_path), frames_B23HW, labels_BHW, remembers=False)
    assert alone.before is None and alone.images_B3HW.shape == images_B3HW.shape


def test_a_frame_without_one_before_it_has_one_made_of_itself(tmp_path: Path) -> None:
    """Most of it is as it was, under another light; pieces are not."""
    images_B3HW = torch.randint(60, 200, (2, 3, 384, 512), dtype=torch.uint8).float()
    changed_share = []
    for seed in range(20):
        torch.manual_seed(seed)
        same_BHW = (with_pieces(images_B3HW) == images_B3HW).all(1)
        changed_share.append(float(1 - same_BHW.float().mean()))
    assert min(changed_share) < 0.02 and 0.03 < float(np.mean(changed_share)) < 0.2 and max(changed_share) < 0.5
    ratio_B = (disturbed(images_B3HW) / images_B3HW).flatten(1).mean(1)
    assert 0 < (ratio_B - 1).abs().max() < 0.15 and ratio_B[0] != ratio_B[1]
    frames_B23HW = images_B3HW.to(torch.uint8)[:, None].repeat(1, 2, 1, 1, 1)
    torch.manual_seed(3)
    seen = see(
        task(tmp_path, scale=(1, 1), colour=0.0), frames_B23HW, torch.zeros(2, 384, 512, dtype=torch.uint8), True
    )
    assert seen.before is not None and not torch.equal(seen.before.images_B3HW, seen.images_B3HW)


def test_what_changed_is_computed_in_the_bucket_of_the_frame_that_needs_the_most() -> None:
    torch.manual_seed(0)
    now_BND = torch.randn(2, 96, 8)
    before_BND = now_BND + 0.001 * torch.randn(2, 96, 8)
    changed_1 = [4, 9, 11, 50, 51, 52, 53]
    before_BND[1, changed_1] += 3.0
    before_BND[0, 17] += 3.0
    sizes = set()
    for _ in range(20):
        index_BK = choose_changed(before_BND, now_BND)
        assert set(changed_1) <= set(index_BK[1].tolist()) and 17 in index_BK[0].tolist()
        sizes.add(index_BK.shape[1])
    assert sizes <= set(computed_counts(96)) and min(sizes) == 9 and len(sizes) > 1  # some have their turn
    assert choose_changed(now_BND.flip(0), now_BND).shape == (2, 96)


def test_buckets_are_shares_of_the_grid() -> None:
    assert computed_counts(768, 8) == [24, 48, 72, 96, 144, 192, 384, 768]
    assert computed_counts(12, 8) == [8, 12] and len(computed_counts(1000)) == len(SHARES) + 1


# ------------------------------------------------------------------------------------------------ in a phase


def remembering(tmp_path: Path, **values: Any) -> Recipe:
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    return changed(recipe, "dense", remember=0.5, data=[{"data": clips(tmp_path), "before": 1}], **values)


def test_a_share_of_the_steps_remembers_the_same_in_each_run(tmp_path: Path) -> None:
    run = PhaseRun(changed(models.recipe(tmp_path), "dense", remember=0.3), "dense", tmp_path)
    found = [is_remembered(run, step) for step in range(1000)]
    assert 0.25 < np.mean(found) < 0.35 and found == [is_remembered(run, step) for step in range(1000)]
    assert not any(is_remembered(PhaseRun(models.recipe(tmp_path), "dense", tmp_path), step) for step in range(100))


def test_a_phase_that_remembers_trains_and_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = remembering(tmp_path)
    train(recipe, tmp_path / "whole", only=["dense"])
    write = module.write_state

    def write_and_stop(folder: Path, state: Any, *rest: Any) -> None:
        write(folder, state, *rest)
        if state.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_state", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped", only=["dense"])
    monkeypatch.undo()
    train(recipe, tmp_path / "stopped", only=["dense"])
    ours, theirs = (load_file(tmp_path / name / "dense.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    plain = changed(recipe, "dense", remember=0.0, data=[{"data": clips(tmp_path)}])
    train(plain, tmp_path / "plain", only=["dense"])
    alone: dict[str, Tensor] = load_file(tmp_path / "plain" / "dense.safetensors")
    assert any(not torch.equal(alone[key], theirs[key]) for key in theirs)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"remember": 0.0}, "dense: `before` of a source says nothing without `remember`; set remember: 0.5"),
    ({"auxiliary": {"blocks": [2]}}, "remember is 0.5, and auxiliary heads learn from whole frames alone"),
    ({"batch": 2, "accumulate": 2}, "against another scene, and a process sees one frame at a time; set batch to 4"),
]


@pytest.mark.parametrize("values, message", REFUSED)
def test_a_phase_that_cannot_carry_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    recipe = changed(remembering(tmp_path), "dense", **values)
    assert isinstance(recipe.phases["dense"], Phase)
    with pytest.raises(InputError, match=message):
        train(recipe, tmp_path / "out", only=["dense"])


def test_networks_without_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="remember is 0.5, and a-net has no tokens; take it out"):
        train(remembering(tmp_path), tmp_path / "out", only=["dense"], network="a-net")

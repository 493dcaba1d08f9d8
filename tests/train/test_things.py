"""Training of the instance task from end to end: what a step reads, whole phases, one that was killed, two processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgeprune.data.instances import PER_PLANE
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.checkpoint import save
from edgeprune.quantize.loading import load, make_model
from edgeprune.train import batches
from edgeprune.train.augment import Augment
from edgeprune.train.backend import make_backend
from edgeprune.train.batches import AHEAD, PLANES, Mixture, MixtureSampler, load_batches, to_device
from edgeprune.train.history import History
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Mix, Recipe
from edgeprune.train.resume import NAME
from edgeprune.train.tasks.policy_alone import LabelsForPolicy
from edgeprune.train.trainer import Trainer
from tests import models
from tests.selected import select_tokens
from tests.train import rectangles, shares
from tests.train.rectangles import Rectangles, Scores
from tests.train.test_resume import FORK, train_and_wait

# ------------------------------------------------------------------------------------------------ what is read


def mixture(things: bool = True, size: tuple[int, int] = (models.HEIGHT, models.WIDTH)) -> Mixture:
    return Mixture([Rectangles(range(6), things)], Preprocess(*size), 255, things)


def sampler() -> MixtureSampler:
    return MixtureSampler([Mix(data="any")], [6], batch=2, steps=3, seed=0)


def test_batches_hold_labels_planes_and_classes() -> None:
    for keys, (images_B3HW, (labels_BHW, planes_BPHW, classes_BI)) in zip(
        sampler(), load_batches(mixture(), sampler(), 0), strict=True
    ):
        assert images_B3HW.shape == (2, 3, 64, 96) and labels_BHW.shape == (2, 64, 96)
        assert planes_BPHW.shape == (2, PLANES, 64, 96) and planes_BPHW.dtype == labels_BHW.dtype == torch.uint8
        assert classes_BI.shape == (2, PLANES * PER_PLANE) and classes_BI.dtype == torch.int64
        for (_, index), label_HW, planes_PHW, classes_I in zip(keys, labels_BHW, planes_BPHW, classes_BI, strict=True):
            assert classes_I.tolist() == [1, 2] + [255] * 62
            for bit, mask_HW in enumerate(rectangles.masks_of(index)):
                assert np.array_equal(planes_PHW[0].numpy() >> bit & 1, mask_HW)
            assert not (planes_PHW[0] >> 2).any() and not planes_PHW[1:].any()
            assert np.array_equal(label_HW, Rectangles([index], False)[0].label_HW)


def test_without_things_it_gives_labels_alone() -> None:
    for with_things, labels in zip(
        load_batches(mixture(), sampler(), 0), load_batches(mixture(things=False), sampler(), 0), strict=True
    ):
        assert torch.equal(with_things[0], labels[0]) and torch.equal(with_things[1][0], labels[1])


def test_what_a_frame_does_not_cover_is_of_no_thing() -> None:
    """A frame of 3:2 in an input of 2:1 has bars at its sides."""
    _, (label_HW, planes_PHW, _) = mixture(size=(32, 64))[0, 0]
    assert (label_HW[:, :8] == 255).all() and (label_HW[:, -8:] == 255).all()
    assert not planes_PHW[:, :, :8].any() and not planes_PHW[:, :, -8:].any()
    small_HW = np.asarray(Image.fromarray(rectangles.masks_of(0)[0]).resize((48, 32), Image.Resampling.NEAREST))
    assert np.array_equal(planes_PHW[0, :, 8:-8].numpy() & 1, small_HW)


def test_a_worker_hands_over_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(free: int) -> list[Any]:
        monkeypatch.setattr(batches, "free_shared_bytes", lambda: free)
        return [to_device(batch, torch.device("cpu")) for batch in load_batches(mixture(), sampler(), 1)]

    for (ours, our_targets), (theirs, their_targets) in zip(drawn(0), drawn(1 << 30), strict=True):
        assert torch.equal(ours, theirs) and len(our_targets) == len(their_targets) == 3
        assert all(torch.equal(one, other) for one, other in zip(our_targets, their_targets, strict=True))


def test_shared_memory_holds_planes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many batches are prepared as fit: of a batch of two 12 bytes a pixel, and 512 of classes, in place of 4."""
    made: list[dict[str, Any]] = []

    def make(_: Mixture, **settings: Any) -> list[Any]:
        made.append(settings)
        return []

    monkeypatch.setattr(batches, "DataLoader", make)
    each = 2 * (12 * models.HEIGHT * models.WIDTH + 512)
    for free, workers, ahead in ((11 * each, 2, AHEAD), (10.9 * each, 2, 3), (4.9 * each, 0, None)):
        monkeypatch.setattr(batches, "free_shared_bytes", lambda free=free: free)
        list(load_batches(mixture(), sampler(), 2))
        assert (made[-1]["num_workers"], made[-1]["prefetch_factor"]) == (workers, ahead)


# ------------------------------------------------------------------------------------------------ whole phases


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recipe, Path, list[Scores]]]:
    """dense -> sparse -> qat, validated twice each; their folder and what was scored."""
    folder = tmp_path_factory.mktemp("things")
    with pytest.MonkeyPatch.context() as patch:
        rectangles.give(patch)
        made = rectangles.stand_in(patch)
        recipe = rectangles.recipe(folder, checkpoint_seconds=0.0)
        recipe = Recipe.model_validate(
            recipe.model_dump() | {"validation": {"data": rectangles.write_set(folder), "frames": 3, "times": 2}}
        )
        train(recipe, folder / "out")
        yield recipe, folder / "out", list(made)


def test_all_phases_run_to_their_end(run: tuple[Recipe, Path, list[Scores]]) -> None:
    _, out, _ = run
    assert {path.name for path in out.iterdir()} - models.OF_A_RUN == {
        "calib-qat.yaml", "calib-sparse.yaml", "dense.json", "dense.safetensors", "qat.json", "qat.safetensors",
        "samples-dense.png", "samples-qat.png", "samples-sparse.png", "sparse.json", "sparse.safetensors",
    }  # fmt: skip
    for name in ("dense", "sparse", "qat"):
        model, card = load(out / f"{name}.safetensors")
        assert (card.model.task, card.model.queries, card.names) == ("instance", 8, rectangles.NAMES)
        assert all(value.isfinite().all() for value in model.state_dict().values() if value.is_floating_point())
        history = json.loads((out / f"{name}.json").read_text())
        assert [row["step"] for row in history] == [2, 4] and all(0 <= row["mask_ap"] <= 1 for row in history)
        assert all(np.isfinite(row["loss"]) and row["loss"] > 1 for row in history)


def test_things_are_scored_as_a_graph_gives_them(run: tuple[Recipe, Path, list[Scores]]) -> None:
    """Of three frames, twice in each of three phases: bytes and FP32, beside the frame itself, with its things."""
    _, out, made = run
    assert len(made) == 6
    outputs, sample = made[-1].outputs[1], made[-1].samples[1]
    assert {name: (each.dtype, each.shape) for name, each in outputs.items()} == {
        "classes": (np.uint8, (8,)),
        "scores": (np.float32, (8,)),
        "boxes": (np.float32, (8, 4)),
        "masks": (np.uint8, (8, 16, 24)),
    }
    assert [each.name for each in made[-1].samples] == ["frame-100", "frame-104", "frame-107"]
    assert sample.things is not None and len(sample.things) == 2
    model, _ = load(out / "qat.safetensors")
    assert json.loads((out / "qat.json").read_text())[-1]["mask_ap"] == made[-1].result()["mask_ap"]
    label_hw = select_tokens(model, sample.image_HW3)[1]
    assert label_hw.shape == (16, 24) and set(np.unique(label_hw)) <= {0, 1, 2, 255}


def test_killed_phases_go_on_to_the_same_weights(
    run: tuple[Recipe, Path, list[Scores]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Bit for bit, with points, masked attention and gates that are drawn."""
    rectangles.give(monkeypatch)
    rectangles.stand_in(monkeypatch)
    recipe, whole, _ = run
    content, out = recipe.model_dump(mode="json"), tmp_path / "killed"
    del content["phases"]["qat"]
    for name, step in (("dense", 2), ("sparse", 3)):
        heard, saved = FORK.Pipe(duplex=False)
        child = FORK.Process(target=train_and_wait, args=(content, out, name, step, saved))
        child.start()
        saved.close()
        assert heard.recv() == step
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL and json.loads((out / name / NAME).read_text())["step"] == step
    said.clear()
    train(Recipe.model_validate(content), out)
    assert any(line.startswith("sparse: resumes at step 3 of 4") for line in said)
    for name in ("dense", "sparse"):
        ours, theirs = load_file(out / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def test_a_policy_learns_alone_from_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its phase reads no things, and is scored by the model's own task."""
    rectangles.give(monkeypatch)
    made = rectangles.stand_in(monkeypatch)
    recipe = rectangles.recipe(tmp_path, policy={"name": "cts", "options": {}}, calibration=None)
    content = recipe.model_dump()
    content["phases"] = {"alone": content["phases"]["dense"] | {"kind": "policy"}}
    content["validation"] = {"data": rectangles.write_set(tmp_path), "frames": 2, "times": 1}
    recipe = Recipe.model_validate(content)
    trainer = Trainer(PhaseRun(recipe, "alone", tmp_path), make_backend("cpu", False), [0.6, 0.2, 0.2], None)
    assert isinstance(trainer.task, LabelsForPolicy) and not trainer.task.things
    assert trainer.splits[0][0].things is None
    trainer.train()
    assert len(made) == 1 and "mask_ap" in json.loads((tmp_path / "alone.json").read_text())[-1]


# ------------------------------------------------------------------------------------------------ several processes


def same_points(*shape: Any, device: Any = None) -> torch.Tensor:
    """In place of what is drawn at random: the same for each frame, each mask and each process."""
    size = shape[0] if isinstance(shape[0], tuple) else shape
    generator = torch.Generator().manual_seed(0)
    return torch.empty(size[1:]).uniform_(generator=generator).expand(size).clone()


def as_they_are(
    augment: Augment, images_B3HW: torch.Tensor, labels_BHW: torch.Tensor, planes_BPHW: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """No augmentation; of some frames a thing is lost, and of some all are."""
    first_B = (labels_BHW > 0).flatten(1).long().argmax(1)  # where the box begins
    kept_B = torch.tensor([0, 1, 3], dtype=torch.uint8)[first_B % 3]
    return images_B3HW.float(), labels_BHW.long(), planes_BPHW & kept_B[:, None, None, None]


def losses_of(recipe: Recipe, out: Path) -> dict[str, list[float]]:
    """Of every step of each phase the mean over processes."""
    losses: list[torch.Tensor] = []
    add = History.add

    def listen(history: History, loss_P: torch.Tensor, keep: torch.Tensor) -> None:
        losses.append(loss_P.mean())
        add(history, loss_P, keep)

    with pytest.MonkeyPatch.context() as patch:
        rectangles.give(patch)
        patch.setattr(torch, "rand", same_points)
        patch.setattr(torch, "randint", lambda high, shape, device=None: torch.arange(shape[0]) % high)
        patch.setattr(Augment, "with_planes", as_they_are)
        patch.setattr(History, "add", listen)
        backend = make_backend("cpu", False)
        for name in recipe.phases:
            Trainer(PhaseRun(recipe, name, out), backend, [1 / 3] * 3, None).train()
    parts = torch.stack(losses).split([phase.steps for phase in recipe.phases.values()])
    return {name: part.tolist() for name, part in zip(recipe.phases, parts, strict=True)}


def write_losses(recipe: Recipe, out: Path) -> None:
    found = losses_of(recipe, out)
    if os.environ["RANK"] == "0":
        (out / "losses.json").write_text(json.dumps(found))


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Every loss within 1e-5 of itself, of batches whose frames have two things, one or none: in a phase that begins anew, with
    masked attention, and in one that learns from a teacher, of batches in two parts."""
    recipe = rectangles.recipe(tmp_path)
    teacher = tmp_path / "teacher.safetensors"
    torch.manual_seed(1)
    card = rectangles.card(recipe)
    save(teacher, card, make_model(card).state_dict())
    content = recipe.model_dump()
    anew = content["phases"]["dense"] | {"frames": 32, "batch": 4, "lr": 2e-4}
    taught = {
        "start": "anew",
        "teacher": str(teacher),
        "distill": 1.0,
        "distill_tokens": 1.0,
        "accumulate": 2,
        "lr": 5e-5,
    }
    recipe = Recipe.model_validate(content | {"phases": {"anew": anew, "taught": anew | taught}})
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with shares.launched(2, write_losses, recipe, tmp_path / "two"):
        one = losses_of(recipe, tmp_path / "one")
    two = json.loads((tmp_path / "two" / "losses.json").read_text())
    for name in ("anew", "taught"):
        assert len(one[name]) == len(two[name]) == 8 and two[name] == pytest.approx(one[name], rel=1e-5)
    assert one["anew"][-1] < one["anew"][0]

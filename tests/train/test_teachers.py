"""A phase that learns from several teachers: by the mean of their class probabilities, and by the tokens of one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import save
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.loading import load, read_card
from edgeprune.train.backend import OneProcess
from edgeprune.train.fingerprint import contents_of, settings_digest
from edgeprune.train.losses import distance_to_teacher
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.teachers import load_teachers
from edgeprune.train.trainer import Trainer
from tests import models
from tests.models import changed
from tests.train.test_resume import stop_after


def vit(path: Path, size: str = "tiny", seed: int = 0, patch: int = 16) -> str:
    """The checkpoint of a ViT of one block; its path."""
    card = models.card("dense", depth=1, grid=(4, 6) if patch == 16 else (8, 8))
    sides = {"height": 112, "width": 112} if patch == 14 else {}
    card = card.model_copy(update={"model": card.model.model_copy(update={"size": size, "patch": patch} | sides)})
    save(path, card, models.model(card, seed).state_dict())
    return str(path)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Two teachers of the pupils' width."""
    return [vit(tmp_path / f"{name}.safetensors", seed=seed) for seed, name in enumerate(("one", "two"))]


def alone(folder: Path, **changes: Any) -> Recipe:
    """A recipe of one phase, `dense`."""
    content = models.recipe(folder, checkpoint_seconds=0.0).model_dump()
    content["phases"] = {"dense": content["phases"]["dense"] | {"distill": 1.0} | changes}
    return Recipe.model_validate(content)


# ------------------------------------------------------------------------------------------------ what is learnt


def test_of_several_teachers_the_mean_probabilities_are_learnt() -> None:
    """Summed in plain Python; the third teacher is of half the stride, the fourth of twice it."""
    torch.manual_seed(0)
    pupil = torch.randn(2, 5, 4, 6)
    teachers = [torch.randn(2, 5, *size) for size in ((4, 6), (4, 6), (8, 12), (2, 3))]
    at_pupils = [F.interpolate(each, (4, 6), mode="bilinear", align_corners=False) for each in teachers]
    total = 0.0
    for b in range(2):
        for y in range(4):
            for x in range(6):
                each = [logits[b, :, y, x].double().softmax(0) for logits in at_pupils]
                q = pupil[b, :, y, x].double().softmax(0)
                for k in range(5):
                    p = sum(float(of_one[k]) for of_one in each) / 4
                    total += p * (torch.tensor(p).log() - q[k].log()).item()
    assert distance_to_teacher(pupil, *teachers).item() == pytest.approx(total / 48, rel=1e-5)


def test_teachers_that_are_sure_of_different_classes_leave_no_infinity() -> None:
    """Each gives the other's class exp(-200), which is 0 in FP32: half of the probability is in each."""
    one, other = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    one[:, 0], other[:, 1] = 200.0, 200.0
    pupil = torch.zeros(1, 3, 1, 1, requires_grad=True)
    distance = distance_to_teacher(pupil, one, other)
    distance.backward()
    assert distance.item() == pytest.approx(torch.tensor(1.5).log().item())
    assert pupil.grad is not None
    torch.testing.assert_close(pupil.grad.flatten(), torch.tensor([-1 / 6, -1 / 6, 1 / 3]))


@pytest.mark.parametrize("size", [(4, 6), (8, 12)])
def test_one_teacher_is_learnt_from_as_before_there_could_be_several(size: tuple[int, int]) -> None:
    """Loss and gradient, bit for bit."""
    torch.manual_seed(0)
    pupil, teacher = torch.randn(2, 5, 4, 6, requires_grad=True), torch.randn(2, 5, *size)
    at_pupils = teacher if size == (4, 6) else F.interpolate(teacher, (4, 6), mode="bilinear", align_corners=False)
    log_p, log_q = F.log_softmax(pupil, dim=1), F.log_softmax(at_pupils, dim=1)
    expected = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1).mean()
    found = distance_to_teacher(pupil, teacher)
    assert found == expected
    assert torch.autograd.grad(found, pupil)[0].equal(torch.autograd.grad(expected, pupil)[0])


def test_tokens_are_those_of_the_first_teacher_of_the_pupils_width(tmp_path: Path, two: list[str]) -> None:
    wide = vit(tmp_path / "wide.safetensors", "small")
    recipe = alone(tmp_path, teacher=[wide, *two], distill_tokens=1.0)
    taught = load_teachers(PhaseRun(recipe, "dense", tmp_path), torch.device("cpu")).teach(models.images(2))
    with torch.no_grad():
        said = [load(Path(path))[0](models.images(2), select_all) for path in (wide, *two)]
    assert taught is not None and taught.x_BND is not None
    assert taught.x_BND.equal(said[1].x_BND) and not taught.x_BND.equal(said[2].x_BND)
    assert [raw.equal(each.raw) for raw, each in zip(taught.raws, said, strict=True)] == [True] * 3
    recipe = alone(tmp_path, teacher=[wide, *two])
    taught = load_teachers(PhaseRun(recipe, "dense", tmp_path), torch.device("cpu")).teach(models.images(2))
    assert taught is not None and taught.x_BND is None and len(taught.raws) == 3


def test_a_step_hears_every_teacher(tmp_path: Path, two: list[str]) -> None:
    """The distances of a step of two teachers are those of the tasks' own on what both say."""

    def stepped(**changes: Any) -> torch.Tensor:
        run = PhaseRun(alone(tmp_path, **changes), "dense", tmp_path)
        trainer = Trainer(run, OneProcess("cpu", False), [1 / 11] * 11, None)
        trainer.model.train()
        trainer.step(0, next(trainer._batches()))
        return torch.cat([each.grad.flatten() for each in trainer.model.parameters() if each.grad is not None])

    one, other, both = (stepped(teacher=teacher, clip=None) for teacher in (two[0], two[1], two))
    # the gradient of KL(p || q) in the pupil's logits is q - p, so that of a mean is the mean of gradients
    torch.testing.assert_close(both, (one + other) / 2, rtol=1e-3, atol=1e-5)
    assert (both - one).abs().max() > 100 * 1e-5


def test_a_phase_may_learn_from_a_phase_and_a_file_and_goes_on_where_it_was_stopped(
    tmp_path: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit as an undisturbed run."""
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    recipe = changed(recipe, "sparse", teacher=[two[0], "dense"], distill_tokens=1.0)
    only = ["dense", "sparse"]
    _, whole = train(recipe, tmp_path / "whole", only=only)
    shutil.copytree(tmp_path / "whole", tmp_path / "out", ignore=shutil.ignore_patterns("sparse*"))
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stop_after(stopping, 2)
        train(recipe, tmp_path / "out", only=only)
    assert not (tmp_path / "out" / "sparse.safetensors").exists()
    _, resumed = train(recipe, tmp_path / "out", only=only)
    ours, theirs = load_file(resumed), load_file(whole)
    assert [key for key in theirs if not ours[key].equal(theirs[key])] == []
    assert read_card(resumed).provenance["recipe"]["teacher"] == [two[0], "dense"]


# ------------------------------------------------------------------------------------------------ what it is made of


def test_another_teacher_in_the_place_of_one_is_noticed_and_named(tmp_path: Path, two: list[str]) -> None:
    recipe, out = alone(tmp_path, teacher=two), tmp_path / "out"
    run = PhaseRun(recipe, "dense", out)
    before = contents_of(run)
    assert sorted(before) == ["begins", "classes", "data 1", "teacher 1", "teacher 2"]
    train(recipe, out)
    moved = [shutil.copy(path, tmp_path / f"moved-{Path(path).name}") for path in two]
    train(alone(tmp_path, teacher=[str(path) for path in moved]), out)  # by content, not by place
    with pytest.raises(InputError, match="was trained on something else: `teacher 1` holds other weights now"):
        train(alone(tmp_path, teacher=two[::-1]), out)
    for other in (two[0], [*two, vit(tmp_path / "three.safetensors", seed=3)]):
        with pytest.raises(InputError, match="was trained with teacher .*, the recipe says"):
            train(alone(tmp_path, teacher=other), out)
    vit(Path(two[1]), seed=9)
    now = contents_of(run)
    assert [key for key in before if now[key] != before[key]] == ["teacher 2"]
    with pytest.raises(InputError, match="was trained on something else: `teacher 2` holds other weights now") as found:
        train(recipe, out)
    assert "\n" not in str(found.value)


def test_a_state_hangs_on_how_many_teachers_there_are_and_not_on_where(tmp_path: Path) -> None:
    def mark(teacher: Any) -> str:
        return settings_digest(PhaseRun(alone(tmp_path, teacher=teacher), "dense", tmp_path))

    one, several = "a/one.safetensors", ["a/one.safetensors", "b/two.safetensors"]
    assert mark(one) == mark([one]) == mark("elsewhere.safetensors")
    assert mark(several) == mark(["x.safetensors", "y.safetensors"]) != mark(one)
    assert mark(["whole", "x.safetensors"]) not in (mark(several), mark(["other", "x.safetensors"]))


# ------------------------------------------------------------------------------------------------ what is refused


RECIPE = "name: r\nphases: {dense: {kind: dense, data: [{data: street}], frames: 4, distill: 1}}\n"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[]", r"phases.dense.teacher: expected an earlier phase or a checkpoint, or a list of them, found \[\]"),
        ("3", "phases.dense.teacher: expected an earlier phase or a checkpoint, or a list of them, found 3"),
        ("[a, {b: c}]", "phases.dense.teacher: expected an earlier phase or a checkpoint"),
        ("[a, true]", "phases.dense.teacher: expected an earlier phase or a checkpoint"),
        ("[a, b, a]", "phases.dense.teacher: names a teacher twice"),
    ],
)
def test_what_names_no_teachers_is_refused(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(InputError, match=message) as found:
        load_recipe(tmp_path / "r.yaml", [f"phases.dense.teacher={written}"])
    assert "\n" not in str(found.value)


def test_a_list_of_one_is_that_one(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    phase = load_recipe(tmp_path / "r.yaml", ["phases.dense.teacher=[a.safetensors]"]).phases["dense"]
    assert phase.teacher == "a.safetensors" and phase.teachers == ("a.safetensors",)
    assert load_recipe(tmp_path / "r.yaml").phases["dense"].teachers == ()


def test_paths_in_a_list_are_relative_to_the_recipe(tmp_path: Path) -> None:
    text = RECIPE.replace("distill: 1", "distill: 1, teacher: [first, a/b.safetensors, /c.safetensors]")
    (tmp_path / "r.yaml").write_text(text)
    found = load_recipe(tmp_path / "r.yaml").phases["dense"].teachers
    assert found == ("first", str(tmp_path / "a/b.safetensors"), "/c.safetensors")


@pytest.mark.parametrize(
    ("teachers", "changes", "message"),
    [
        (("one", "sparse"), {}, "phase sparse: teacher is 'sparse', which must be an earlier phase or a .safetensors"),
        (("one", "gone"), {}, "checkpoint .*gone.safetensors is not there"),
        (
            ("wide", "fine"),
            {"distill_tokens": 1.0},
            "wide.safetensors: tokens of a small model can't be learnt by a tiny one, .*fine.safetensors: tokens of 14 pixels "
            "can't be learnt by a model of patches of 16; set distill_tokens: 0, or name a teacher of model.size tiny",
        ),
        (
            ("wide", "one"),
            {"distill": 0.0, "distill_tokens": 1.0},
            "phase sparse: with distill: 0 only the tokens of .*one.safetensors would be learnt, .*; set distill: 1.0, or "
            "teacher: .*one.safetensors",
        ),
    ],
)
def test_teachers_that_cannot_teach_it_are_refused_before_any_training(
    tmp_path: Path, teachers: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    files = {"one": {}, "wide": {"size": "small"}, "fine": {"patch": 14}}
    for name in files.keys() & set(teachers):
        vit(tmp_path / f"{name}.safetensors", **files[name])  # type: ignore[arg-type]
    named = [each if each == "sparse" else str(tmp_path / f"{each}.safetensors") for each in teachers]
    with pytest.raises(InputError, match=message) as found:
        train(changed(models.recipe(tmp_path), "sparse", teacher=named, **changes), tmp_path / "out")
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()


def test_each_of_several_must_know_the_classes(tmp_path: Path, two: list[str]) -> None:
    card = models.card("dense", depth=1)
    names = [*card.names[:-1], "another"]
    path = tmp_path / "other.safetensors"
    save(path, card.model_copy(update={"names": names}), models.model(card).state_dict())
    with pytest.raises(
        InputError, match=r"teacher .*other.safetensors knows other classes: .* in the data; name a teach"
    ):
        train(alone(tmp_path, teacher=[*two, str(path)]), tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""A whole recipe on the small street: dense, sparse, QAT; what its phases hand on, and to whom they listen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import save
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods.svit import SViTOptions
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.loading import load, load_start, make_model, read_card
from edgeprune.train.dry_run import dry_run
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from tests import models
from tests.hearing import hearing
from tests.models import changed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, list[str]]:
    """The recipe, its folder when it has ended, and what was said."""
    folder = tmp_path_factory.mktemp("train")
    recipe = models.recipe(folder, validation={"data": models.write_street(folder), "frames": 2, "times": 2})
    with hearing() as said:
        paths = train(recipe, folder / "out", folder / "cache")
    assert [path.name for path in paths] == ["dense.safetensors", "sparse.safetensors", "qat.safetensors"]
    return recipe, folder / "out", said


def test_all_phases_run_to_their_end(run: tuple[Recipe, Path, list[str]]) -> None:
    recipe, out, said = run
    assert {path.name for path in out.iterdir()} - models.OF_A_RUN == {
        "calib-qat.yaml", "calib-sparse.yaml", "dense.json", "dense.safetensors", "qat.json", "qat.safetensors",
        "samples-dense.png", "samples-qat.png", "samples-sparse.png", "sparse.json", "sparse.safetensors",
    }  # fmt: skip
    for name, policy, quantized in (("dense", "dense", False), ("sparse", "svit", False), ("qat", "svit", True)):
        model, card = load(out / f"{name}.safetensors")
        assert (card.policy.name, card.quantized, card.provenance["steps"]) == (policy, quantized, 4)
        assert card.provenance["recipe"]["lr"] == recipe.phases[name].lr
        assert all(value.isfinite().all() for value in model.state_dict().values() if value.is_floating_point())
        history = json.loads((out / f"{name}.json").read_text())
        assert [row["step"] for row in history] == [2, 4] and all(0 <= row["miou"] <= 1 for row in history)
        assert all(("keep" in row) == (policy == "svit") for row in history)
    assert [read_card(out / f"{name}.safetensors").provenance["start"] for name in ("dense", "sparse", "qat")] == [
        "random", "dense", "sparse",
    ]  # fmt: skip
    assert any(line.startswith("sparse: sparse, 4 steps of 2 from dense, on cpu, 8 samples") for line in said)
    assert any("miou" in line and "min left" in line for line in said)


def test_the_phases_train(run: tuple[Recipe, Path, list[str]]) -> None:
    _, out, _ = run
    dense, sparse, qat = (load_file(out / f"{name}.safetensors") for name in ("dense", "sparse", "qat"))
    for key in ("blocks.1.attn.qkv.weight", "head.classify.bias", "stem.proj.weight"):
        assert not torch.equal(dense[key], sparse[key]) and not torch.equal(sparse[key], qat[key])
    assert not torch.equal(sparse["policy.gates.0.fc1.weight"], qat["policy.gates.0.fc1.weight"])
    scales = [key for key in qat if key.endswith("_quantizer.scale")]
    assert len(scales) == 24 and not any("quantizer" in key for key in sparse)
    calib = read_calib(out / "calib-qat.yaml")
    model, _ = load(out / "qat.safetensors")
    assert calib.ranges == {name: pytest.approx(made.input_step * 127) for name, made in quantized_linears(model)}
    assert np.mean(calib.occupancy["int8"], axis=0) == pytest.approx([0.6, 0.4], abs=1 / models.N)
    assert read_calib(out / "calib-sparse.yaml").thresholds.keys() == {"fp32"}


def test_a_second_run_finds_all_done(run: tuple[Recipe, Path, list[str]], said: list[str]) -> None:
    recipe, out, _ = run
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    said.clear()
    train(recipe, out)
    assert [line.split(",")[0] for line in said] == ["dense: done before", "sparse: done before", "qat: done before"]
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_done_phase_that_names_fewer_options_is_the_same(
    run: tuple[Recipe, Path, list[str]], tmp_path: Path, said: list[str]
) -> None:
    """As those of a version that wrote what its recipe said, and left the rest to the defaults."""
    recipe, out, _ = run
    for path in out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "sparse.safetensors"
    card = read_card(path)
    assert card.policy.options.keys() == SViTOptions.model_fields.keys()
    card.policy.options = {"first": 1, "keep": [0.6, 0.4]}
    save(path, card, load_file(path))
    said.clear()
    train(recipe, tmp_path)
    assert [line.split(",")[0] for line in said] == ["dense: done before", "sparse: done before", "qat: done before"]


def test_done_phases_of_another_recipe_are_refused(run: tuple[Recipe, Path, list[str]]) -> None:
    recipe, out, _ = run
    with pytest.raises(InputError, match=r"sparse.safetensors was trained with lr 0.001, the recipe says 0.002; give"):
        train(changed(recipe, "sparse", lr=2e-3), out)
    content = recipe.model_dump()
    with pytest.raises(
        InputError, match=r"dense.safetensors was trained with model .*depth=3.*the recipe says .*depth=4"
    ):
        train(Recipe.model_validate(content | {"model": content["model"] | {"depth": 4}}), out)
    # the dense phase does not hang on the policy's options, the sparse one does
    other = Recipe.model_validate(content | {"policy": {"name": "svit", "options": {"first": 2}}})
    train(other, out, only=["dense"])
    with pytest.raises(
        InputError, match=r"sparse.safetensors was trained with policy svit: first 1, the recipe says 2"
    ):
        train(other, out)


def test_a_single_phase_takes_its_start_from_the_folder(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    with pytest.raises(InputError, match=r"phase sparse starts from dense, whose checkpoint .* is not there; run that"):
        train(recipe, tmp_path, only=["sparse"])
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    (path,) = train(recipe, tmp_path, only=["sparse"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)  # alone or in a row: the same weights


@pytest.mark.parametrize("key", ["start", "teacher"])
def test_a_single_phase_needs_no_file_of_another(run: tuple[Recipe, Path, list[str]], tmp_path: Path, key: str) -> None:
    """Done or not asked for: of a shipped recipe somebody has the last phase's start, and no teacher of the first."""
    recipe, out, _ = run
    gone = changed(recipe, "qat", distill=1.0, teacher="dense")
    gone = changed(gone, "qat", **{key: str(tmp_path / "gone.safetensors")})
    assert train(gone, out, only=["dense"]) == [out / "dense.safetensors"]
    shutil.copy(out / "dense.safetensors", tmp_path)
    train(gone, tmp_path, only=["sparse"])
    assert [plan.phase for plan in dry_run(gone, tmp_path / "other", None, ["sparse"])] == ["sparse"]
    with pytest.raises(InputError, match="gone.safetensors"):
        train(gone, tmp_path, only=["qat"])


def test_equal_weights_elsewhere_are_the_same_start_and_others_are_not(
    run: tuple[Recipe, Path, list[str]], tmp_path: Path, said: list[str]
) -> None:
    recipe, out, _ = run
    here, there, other = (tmp_path / f"{name}.safetensors" for name in ("here", "there", "other"))
    (tmp_path / "out").mkdir()
    for path in (here, there, tmp_path / "out" / "dense.safetensors"):  # the last one is the teacher
        path.write_bytes((out / "dense.safetensors").read_bytes())
    other.write_bytes((out / "sparse.safetensors").read_bytes())
    train(changed(recipe, "sparse", start=str(here)), tmp_path / "out", only=["sparse"])
    said.clear()
    train(changed(recipe, "sparse", start=str(there)), tmp_path / "out", only=["sparse"])
    assert said[0].startswith("sparse: done before")
    with pytest.raises(InputError, match=r"was trained on something else: `start` holds other weights now"):
        train(changed(recipe, "sparse", start=str(other)), tmp_path / "out", only=["sparse"])


def test_a_phase_may_have_options_of_its_own(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    other = changed(recipe, "sparse", options={"full": 0.5})
    (path,) = train(other, tmp_path, only=["sparse"])
    options = read_card(path).policy.options
    assert (options["first"], options["keep"], options["full"]) == (1, [0.6, 0.4], 0.5)
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    assert other.policy == recipe.policy  # the other phases keep what the recipe says
    train(other, tmp_path, only=["sparse"])
    with pytest.raises(InputError, match=r"was trained with policy svit: full 0\.5, the recipe says 0\.0; give"):
        train(recipe, tmp_path, only=["sparse"])


def test_a_phase_may_have_a_policy_of_its_own(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    other = changed(recipe, "sparse", policy={"name": "random", "options": {"first": 1}}, options={"keep": [0.5]})
    (path,) = train(other, tmp_path, only=["sparse"])
    policy = read_card(path).policy
    assert policy.name == "random" and (policy.options["first"], policy.options["keep"]) == (1, [0.5])
    assert other.policy_of(other.phases["qat"]) == recipe.policy
    train(other, tmp_path, only=["sparse"])
    with pytest.raises(InputError, match="was trained with policy .*random.*the recipe says"):
        train(recipe, tmp_path, only=["sparse"])


def test_a_phase_without_frames_hands_its_weights_on(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    """What the sparse phase made of the weights, as a dense model: the reference of the shipped recipe."""
    recipe, out, _ = run
    again = changed(recipe, "dense", frames=0, start=str(out / "sparse.safetensors"), ema=0.9)
    (path,) = train(again, tmp_path, only=["dense"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert set(theirs) - set(ours) == {key for key in theirs if key.startswith("policy.")}
    card = read_card(path)
    assert card.policy == PolicySpec() and card.provenance["steps"] == 0
    assert json.loads((tmp_path / "dense.json").read_text()) == []


def test_the_teacher_is_heard(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    (path,) = train(changed(recipe, "sparse", distill=0.0, teacher=None), tmp_path, only=["sparse"])
    alone, taught = load_file(path), load_file(out / "sparse.safetensors")
    assert not torch.equal(alone["head.classify.weight"], taught["head.classify.weight"])
    path.unlink()
    (path,) = train(changed(recipe, "sparse", distill_tokens=1.0), tmp_path, only=["sparse"])
    assert not torch.equal(load_file(path)["blocks.2.mlp.fc2.weight"], taught["blocks.2.mlp.fc2.weight"])


def test_a_teacher_keeps_every_token(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    """A sparse model and its weights as a dense one teach the same."""
    recipe, out, _ = run
    made = []
    for policy in (recipe.policy, PolicySpec()):
        model = make_model(read_card(out / "sparse.safetensors").model_copy(update={"policy": policy}))
        load_start(model, out / "sparse.safetensors", models.STREET.names)
        folder = tmp_path / policy.name
        folder.mkdir()
        teacher = folder / "teacher.safetensors"
        save(teacher, read_card(out / "sparse.safetensors").model_copy(update={"policy": policy}), model.state_dict())
        (folder / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
        taught = changed(recipe, "sparse", teacher=str(teacher), distill_tokens=1.0)
        made.append(load_file(train(taught, folder, only=["sparse"])[0]))
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_another_seed_starts_from_a_checkpoint_elsewhere(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    dense = str(out / "dense.safetensors")
    again = changed(recipe, "sparse", start=dense, teacher=dense).model_copy(update={"seed": 1})
    [path] = train(again, tmp_path / "seed1", only=["sparse"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(InputError, match="nothing.safetensors is not there"):
        train(changed(recipe, "sparse", start="nothing.safetensors"), tmp_path / "seed2", only=["sparse"])


def test_a_start_that_was_cut_off_is_refused(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        train(recipe, tmp_path)


def test_weights_start_the_first_phase(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    content = recipe.model_dump() | {"weights": str(out / "dense.safetensors"), "validation": None}
    content["phases"] = {"dense": content["phases"]["dense"] | {"frames": 0}}
    (path,) = train(Recipe.model_validate(content), tmp_path)
    assert torch.equal(load_file(path)["norm.weight"], load_file(out / "dense.safetensors")["norm.weight"])
    assert read_card(path).provenance["start"] == str(out / "dense.safetensors")

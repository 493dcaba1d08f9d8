"""A whole recipe on the small street: dense, sparse, QAT; killed and resumed; and what is refused before it begins."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from edgeprune.calibrate import read_calib
from edgeprune.checkpoint import load, load_start, make_model, read_card, save
from edgeprune.config import ROOT, PolicySpec, Recipe
from edgeprune.errors import InputError, RunError
from edgeprune.quantize import quantized_linears
from edgeprune.train import loop
from edgeprune.train.loop import train
from edgeprune.train.progress import NAME, Progress, read_progress, write_progress
from tests import models


def quiet(line: str) -> None:
    pass


def changed(recipe: Recipe, phase: str, **changes: Any) -> Recipe:
    """A copy of the recipe with keys of one phase changed."""
    content = recipe.model_dump()
    content["phases"][phase] |= changes
    return Recipe.model_validate(content)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, list[str]]:
    """The recipe, its folder when it has ended, and what was said."""
    folder = tmp_path_factory.mktemp("train")
    recipe = models.recipe(folder, validation={"data": models.write_street(folder), "frames": 2, "times": 2})
    said: list[str] = []
    paths = train(recipe, folder / "out", said.append, folder / "cache")
    assert [path.name for path in paths] == ["dense.safetensors", "sparse.safetensors", "qat.safetensors"]
    return recipe, folder / "out", said


def test_all_phases_run_to_their_end(run: tuple[Recipe, Path, list[str]]) -> None:
    recipe, out, said = run
    assert sorted(path.name for path in out.iterdir()) == [
        "calib-qat.yaml", "calib-sparse.yaml", "dense.json", "dense.safetensors", "qat.json", "qat.safetensors",
        "sparse.json", "sparse.safetensors",
    ]  # fmt: skip
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
    assert any("mIoU" in line and "min left" in line for line in said)


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


def test_a_second_run_finds_all_done(run: tuple[Recipe, Path, list[str]]) -> None:
    recipe, out, _ = run
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    said: list[str] = []
    train(recipe, out, said.append)
    assert [line.split(",")[0] for line in said] == ["dense: done before", "sparse: done before", "qat: done before"]
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_done_phases_of_another_recipe_are_refused(run: tuple[Recipe, Path, list[str]]) -> None:
    recipe, out, _ = run
    with pytest.raises(InputError, match=r"sparse.safetensors was trained with lr 0.001, the recipe says 0.002; give"):
        train(changed(recipe, "sparse", lr=2e-3), out, quiet)
    content = recipe.model_dump()
    with pytest.raises(
        InputError, match=r"dense.safetensors was trained with model .*depth=3.*the recipe says .*depth=4"
    ):
        train(Recipe.model_validate(content | {"model": content["model"] | {"depth": 4}}), out, quiet)
    # the dense phase does not hang on the policy's options, the sparse one does
    other = Recipe.model_validate(content | {"policy": {"name": "svit", "options": {"first": 2}}})
    train(other, out, quiet, only=["dense"])
    with pytest.raises(InputError, match=r"sparse.safetensors was trained with policy"):
        train(other, out, quiet)


def test_a_single_phase_takes_its_start_from_the_folder(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    with pytest.raises(InputError, match=r"phase sparse starts from dense, whose checkpoint .* is not there; run that"):
        train(recipe, tmp_path, quiet, only=["sparse"])
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    (path,) = train(recipe, tmp_path, quiet, only=["sparse"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)  # alone or in a row: the same weights


def test_a_phase_may_have_options_of_its_own(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    other = changed(recipe, "sparse", options={"full": 0.5})
    (path,) = train(other, tmp_path, quiet, only=["sparse"])
    assert read_card(path).policy.options == {"first": 1, "keep": [0.6, 0.4], "full": 0.5}
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    assert other.policy == recipe.policy  # the other phases keep what the recipe says
    train(other, tmp_path, quiet, only=["sparse"])
    with pytest.raises(InputError, match="was trained with policy .*the recipe says"):
        train(recipe, tmp_path, quiet, only=["sparse"])


def test_a_phase_without_frames_hands_its_weights_on(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    """What the sparse phase made of the weights, as a dense model: the reference of the shipped recipe."""
    recipe, out, _ = run
    again = changed(recipe, "dense", frames=0, start=str(out / "sparse.safetensors"), ema=0.9)
    (path,) = train(again, tmp_path, quiet, only=["dense"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert set(theirs) - set(ours) == {key for key in theirs if key.startswith("policy.")}
    card = read_card(path)
    assert card.policy == PolicySpec() and card.provenance["steps"] == 0
    assert json.loads((tmp_path / "dense.json").read_text()) == []


def test_the_teacher_is_heard(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    (path,) = train(changed(recipe, "sparse", distill=0.0, teacher=None), tmp_path, quiet, only=["sparse"])
    alone, taught = load_file(path), load_file(out / "sparse.safetensors")
    assert not torch.equal(alone["head.classify.weight"], taught["head.classify.weight"])
    path.unlink()
    (path,) = train(changed(recipe, "sparse", distill_tokens=1.0), tmp_path, quiet, only=["sparse"])
    assert not torch.equal(load_file(path)["blocks.2.mlp.fc2.weight"], taught["blocks.2.mlp.fc2.weight"])


def test_a_teacher_keeps_every_token(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    """A sparse model and its weights as a dense one teach the same."""
    recipe, out, _ = run
    made = []
    for policy in (recipe.policy, PolicySpec()):
        model = make_model(read_card(out / "sparse.safetensors").model_copy(update={"policy": policy}))
        load_start(model, out / "sparse.safetensors")
        folder = tmp_path / policy.name
        folder.mkdir()
        teacher = folder / "teacher.safetensors"
        save(teacher, read_card(out / "sparse.safetensors").model_copy(update={"policy": policy}), model.state_dict())
        (folder / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
        taught = changed(recipe, "sparse", teacher=str(teacher), distill_tokens=1.0)
        made.append(load_file(train(taught, folder, quiet, only=["sparse"])[0]))
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_tokens_of_another_width_are_refused_as_a_lesson(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    card = read_card(out / "dense.safetensors")
    card = card.model_copy(update={"model": card.model.model_copy(update={"size": "small"})})
    teacher = tmp_path / "small.safetensors"
    save(teacher, card, make_model(card).state_dict())
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes())
    taught = changed(recipe, "sparse", teacher=str(teacher), distill_tokens=1.0)
    with pytest.raises(
        InputError, match="tokens of a small model can't be learnt by a tiny one; set distill_tokens: 0"
    ):
        train(taught, tmp_path, quiet, only=["sparse"])


def test_another_seed_starts_from_a_checkpoint_elsewhere(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    dense = str(out / "dense.safetensors")
    again = changed(recipe, "sparse", start=dense, teacher=dense).model_copy(update={"seed": 1})
    [path] = train(again, tmp_path / "seed1", quiet, only=["sparse"])
    ours, theirs = load_file(path), load_file(out / "sparse.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(InputError, match="nothing.safetensors is not there"):
        train(changed(recipe, "sparse", start="nothing.safetensors"), tmp_path / "seed2", quiet, only=["sparse"])


def test_a_start_that_was_cut_off_is_refused(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    (tmp_path / "dense.safetensors").write_bytes((out / "dense.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        train(recipe, tmp_path, quiet)


def test_weights_start_the_first_phase(run: tuple[Recipe, Path, list[str]], tmp_path: Path) -> None:
    recipe, out, _ = run
    content = recipe.model_dump() | {"weights": str(out / "dense.safetensors"), "validation": None}
    content["phases"] = {"dense": content["phases"]["dense"] | {"lr": 0.0}}
    (path,) = train(Recipe.model_validate(content), tmp_path, quiet)
    assert torch.equal(load_file(path)["norm.weight"], load_file(out / "dense.safetensors")["norm.weight"])
    assert read_card(path).provenance["start"] == str(out / "dense.safetensors")


# ------------------------------------------------------------------------------------------------ kill -9

CHILD = """
import sys, time, torch
from pathlib import Path
from edgeprune.config import load_recipe
from edgeprune.train import loop

write = loop.write_progress
def write_and_say(folder, progress, *rest):
    write(folder, progress, *rest)
    print("saved", folder.name, progress.step, flush=True)
    if (folder.name, progress.step) == (sys.argv[3], int(sys.argv[4])):
        time.sleep(600)  # until it is killed
loop.write_progress = write_and_say
loop.train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), lambda line: print(line, flush=True))
"""


def test_resumed_after_kill_9_the_weights_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Killed in a dense phase and again in QAT; every weight of every phase is bit for bit the same."""
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    content = recipe.model_dump(mode="json")
    for phase in content["phases"].values():
        phase["drop_path"] = 0.2
    del content["phases"]["sparse"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    whole = tmp_path / "whole"
    train(Recipe.model_validate(content), whole, quiet)

    out = tmp_path / "killed"
    for name, step in (("dense", "2"), ("qat", "3")):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "recipe.yaml"), str(out), name, step],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
        )
        assert child.stdout is not None
        lines: list[str] = []
        while f"saved {name} {step}" not in (line := child.stdout.readline().strip()):
            assert line or child.poll() is None, lines
            lines.append(line)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (out / f"{name}.safetensors").exists()
        assert json.loads((out / name / NAME).read_text())["step"] == int(step)
    said: list[str] = []
    train(Recipe.model_validate(content), out, said.append)
    assert any(line.startswith("qat: resumes at step 3 of 4") for line in said)
    for name in ("dense", "qat"):
        ours, theirs = load_file(out / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []
    assert (out / "calib-qat.yaml").read_text() == (whole / "calib-qat.yaml").read_text()
    names = sorted(path.name for path in out.iterdir())
    assert names == ["calib-qat.yaml", "dense.json", "dense.safetensors", "qat.json", "qat.safetensors"]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupts a phase once the state of `step` is saved."""
    write = loop.write_progress

    def write_and_stop(folder: Path, progress: Progress, *rest: Any) -> None:
        write(folder, progress, *rest)
        if progress.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_progress", write_and_stop)


def test_a_state_of_another_recipe_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "out", quiet, only=["dense"])
    for other in (changed(recipe, "dense", lr=2e-3), recipe.model_copy(update={"seed": 1})):
        with pytest.raises(InputError, match=r"out/dense holds a run of another recipe; give another --out, or delete"):
            train(other, tmp_path / "out", quiet, only=["dense"])
    state = next((tmp_path / "out" / "dense").glob("step-*.safetensors"))
    os.truncate(state, 1000)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        train(recipe, tmp_path / "out", quiet, only=["dense"])
    (tmp_path / "out" / "dense" / NAME).write_text("{")
    with pytest.raises(InputError, match=r"training state .* is damaged; delete .*out/dense"):
        train(recipe, tmp_path / "out", quiet, only=["dense"])


def test_a_kill_while_a_state_is_written_leaves_the_state_before(tmp_path: Path) -> None:
    model = models.model(models.card("dense", depth=1))
    optimiser = torch.optim.AdamW(model.parameters())
    write_progress(tmp_path, Progress(1, "a"), model.state_dict(), {}, optimiser)
    (tmp_path / "step-0000002.partial.safetensors").write_text("half")
    (tmp_path / "step-0000002.safetensors").write_text("whole, but not named yet")
    found = read_progress(tmp_path, "a")
    assert found is not None and found[0].step == 1 and found[1]["weights"].keys() == model.state_dict().keys()
    write_progress(tmp_path, Progress(3, "a"), model.state_dict(), {}, optimiser)
    assert sorted(path.name for path in tmp_path.glob("step-*[0-9].safetensors")) == ["step-0000003.safetensors"]


# ------------------------------------------------------------------------------------------------ refused


def folders(tmp_path: Path, stray: int | None = None) -> str:
    """A data set of images and labels on disk, one label with the id `stray`."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        image_HW3, label_HW = models.scene(index)
        label_HW = label_HW.copy()
        if stray is not None and index == 1:
            label_HW[0, 0] = stray
        Image.fromarray(image_HW3).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(label_HW).save(tmp_path / "labels" / f"{index}.png")
    content = yaml.safe_load(Path(models.write_street(tmp_path)).read_text())
    split = {"images": "images", "labels": "labels"}
    content |= {"name": "folders", "path": ".", "train": split, "val": split}
    del content["test"]
    path = tmp_path / "folders.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("where", ["dense", "qat", "validation"])
def test_a_label_out_of_range_is_refused_before_any_training(tmp_path: Path, where: str) -> None:
    data = folders(tmp_path, stray=77)
    recipe = models.recipe(tmp_path)
    if where == "validation":
        recipe = models.recipe(tmp_path, validation={"data": data})
    else:
        recipe = changed(recipe, where, data=[{"data": data}])
    said: list[str] = []
    with pytest.raises(InputError, match=r"labels/1.png has id 77 .*expected 0 to 10, or 11 \(ignore\)"):
        train(recipe, tmp_path / "out", said.append)
    assert list((tmp_path / "out").iterdir()) == [] and not any("steps of" in line for line in said)


def test_trains_on_folders_without_a_calibration(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path, calibration=None)
    content = recipe.model_dump()
    content["phases"] = {
        "dense": content["phases"]["dense"] | {"data": [{"data": folders(tmp_path)}], "frames": 2, "crop_height": 48,
                                               "crop_width": 64, "class_balance": 0.5, "bf16": None},
    }  # fmt: skip
    del content["phases"]["dense"]["bf16"]
    train(Recipe.model_validate(content), tmp_path / "out", quiet)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dense.json", "dense.safetensors"]


@pytest.mark.parametrize(
    ("phase", "changes", "words"),
    [
        ("sparse", {"teacher": None}, "phase sparse: distill needs `teacher`, an earlier phase"),
        ("dense", {"distill_tokens": 1.0}, "phase dense: distill_tokens needs `teacher`, an earlier phase"),
        (
            "sparse",
            {"teacher": "qat"},
            "phase sparse: teacher is 'qat', which must be an earlier phase or a .safetensors file; it has dense",
        ),
        (
            "dense",
            {"start": "qat"},
            "phase dense: start is 'qat', which must be an earlier phase or a .safetensors file; none is before it",
        ),
        ("dense", {"start": "dens"}, "phase dense: start is 'dens'"),
        ("qat", {"options": {"kep": [0.5]}}, "policy svit: unknown key 'kep'.*did you mean 'keep'"),
        ("qat", {"options": {"first": 3}}, "policy: first=3 leaves no block to gate"),
        ("dense", {"options": {"full": 0.5}}, "phase dense: options are the policy's, and a dense phase has none"),
        ("dense", {"crop_height": 50, "crop_width": 64}, "crop_height is 50; expected a multiple of 16 up to .* 64"),
        ("dense", {"crop_height": 48, "crop_width": 112}, "crop_width is 112; expected a multiple of 16 up to .* 96"),
        ("dense", {"crop_height": 48}, "crop_height and crop_width go together"),
        ("qat", {"data": [{"data": "nowhere.yaml"}]}, "data set nowhere.yaml is not there"),
        ("qat", {"data": [{"data": "stret"}]}, "unknown data set 'stret'.*did you mean 'street'"),
    ],
)
def test_faults_of_a_phase_are_refused_before_any_training(
    tmp_path: Path, phase: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(changed(models.recipe(tmp_path), phase, **changes), tmp_path / "out", quiet)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calibration": None}, "phase qat is quantization-aware and needs `calibration:` in the recipe"),
        ({"calibration": {"data": "nowhere.yaml"}}, "data set nowhere.yaml is not there"),
        ({"validation": {"data": "nowhere.yaml"}}, "data set nowhere.yaml is not there"),
        ({"model": {"classes": 7, "height": 64, "width": 96}}, "data set street has 11 classes, the model 7"),
        ({"device": "gpu"}, "device 'gpu' can't be used .*try `device: cpu`"),
    ],
)
def test_faults_of_a_recipe_are_refused_before_any_training(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(models.recipe(tmp_path, **changes), tmp_path / "out", quiet)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_phase_and_a_folder_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path)
    with pytest.raises(InputError, match="no phase 'spars'; it has dense, sparse, qat; did you mean 'sparse'"):
        train(recipe, tmp_path / "out", quiet, only=["spars"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write checkpoints to"):
        train(recipe, tmp_path / "file", quiet)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vit.safetensors is not there"):
        train(models.recipe(tmp_path, weights=str(tmp_path / "vit.safetensors")), tmp_path / "out", quiet)


def test_a_loss_that_is_no_number_stops_the_phase(tmp_path: Path) -> None:
    recipe = changed(models.recipe(tmp_path, checkpoint_seconds=0.0), "dense", lr=1e30, clip=1e30, ema=0.0)
    with pytest.raises(RunError, match=r"dense: the loss is (nan|inf) at step \d; set a lower lr \(now 1e\+30\)"):
        train(recipe, tmp_path / "out", quiet, only=["dense"])
    assert not (tmp_path / "out" / "dense.safetensors").exists()


def test_validation_scores_what_numpy_scores(tmp_path: Path) -> None:
    """mIoU by torchmetrics against the confusion matrix that the reported figures use."""
    from edgeprune.data.confusion import ConfusionMatrix
    from edgeprune.validate import open_validation, score

    model = models.model()
    data_set, samples = open_validation(models.write_street(tmp_path), "val", ["*"], [])
    result = score(model, data_set, samples, None, None, batch=3)
    matrix = ConfusionMatrix(11, 11)
    select = model.policy.select_top(model.policy.target_counts(models.N))
    for sample in samples:
        image_13HW = torch.from_numpy(sample.image_HW3.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            classes_HW = model(image_13HW, select).logits_BKHW.argmax(1)[0].numpy().astype(np.uint8)
        matrix.update(np.kron(classes_HW, np.ones((2, 2), np.uint8)), sample.label_HW)
    assert result.miou == pytest.approx(matrix.miou, abs=1e-6)
    assert result.per_class == pytest.approx(matrix.per_class_iou.tolist(), abs=1e-6, nan_ok=True)
    assert result.tokens == pytest.approx(model.policy.work_share(model.policy.target_keep), abs=1 / models.N)

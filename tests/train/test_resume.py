"""A phase killed or interrupted goes on where it stopped, and never from another recipe's state."""

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeprune.base.errors import InputError
from edgeprune.quantize.loading import read_card
from edgeprune.train import trainer
from edgeprune.train.fingerprint import settings_digest
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.resume import NAME, PhaseState, read_state, state_tensors, write_state
from tests import models
from tests.models import changed

FORK = multiprocessing.get_context("fork")  # what is imported here need not be imported again


def train_and_wait(content: dict[str, Any], out: Path, name: str, step: int, saved: Connection) -> None:
    """In a process of its own: trains, and says when the state of `step` of a phase is saved; then it waits to be killed."""
    write = trainer.write_state

    def write_and_say(folder: Path, state: PhaseState, *rest: Any) -> None:
        write(folder, state, *rest)
        if (folder.name, state.step) == (name, step):
            saved.send(step)
            time.sleep(600)

    pytest.MonkeyPatch().setattr(trainer, "write_state", write_and_say)
    train(Recipe.model_validate(content), out)


def test_resumed_after_kill_9_the_weights_are_those_of_an_undisturbed_run(tmp_path: Path, said: list[str]) -> None:
    """Killed in a dense phase and again in QAT; every weight of every phase is bit for bit the same, and so is the best of them
    by a part held out."""
    held_out = {"data": models.write_street(tmp_path), "split": "train", "hold_out": 0.25, "keep": "best", "frames": 2}
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0, validation=held_out)
    content = recipe.model_dump(mode="json")
    for phase in content["phases"].values():
        phase["drop_path"] = 0.2
    # heads of its own, which are part of the state, and a block that is none of the optimiser's
    content["phases"]["qat"] |= {"freeze": 1, "auxiliary": {"blocks": [2]}, "ohem": {"least": 0.5}, "dice": 0.5}
    del content["phases"]["sparse"]
    whole = tmp_path / "whole"
    train(Recipe.model_validate(content), whole)

    out = tmp_path / "killed"
    for name, step in (("dense", 2), ("qat", 3)):
        heard, saved = FORK.Pipe(duplex=False)
        child = FORK.Process(target=train_and_wait, args=(content, out, name, step, saved))
        child.start()
        saved.close()  # so that a child that ends is heard
        assert heard.recv() == step
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not (out / f"{name}.safetensors").exists()
        assert json.loads((out / name / NAME).read_text())["step"] == step
    said.clear()
    train(Recipe.model_validate(content), out)
    assert any(line.startswith("qat: resumes at step 3 of 4") for line in said)
    for name in ("dense", "qat"):
        chosen = [read_card(folder / f"{name}.safetensors").provenance["best"] for folder in (out, whole)]
        assert chosen[0] == chosen[1] and 1 <= chosen[0]["step"] <= 4
        ours, theirs = load_file(out / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []
        assert not any(key.startswith("auxiliary.") for key in theirs)
    dense = load_file(out / "dense.safetensors")
    kept = [key for key in dense if torch.equal(dense[key], theirs[key])]
    assert {key for key in kept if key.startswith("blocks.")} == {key for key in dense if key.startswith("blocks.0.")}
    assert {key for key in dense if key.startswith(("stem.", "pos_embed"))} <= set(kept)
    assert (out / "calib-qat.yaml").read_text() == (whole / "calib-qat.yaml").read_text()
    names = {path.name for path in out.iterdir()} - models.OF_A_RUN
    assert names == {"calib-qat.yaml"} | {
        name.format(phase) for name in ("{}.json", "{}.safetensors", "samples-{}.png") for phase in ("dense", "qat")
    }


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupts a phase once the state of `step` is saved."""
    write = trainer.write_state

    def write_and_stop(folder: Path, state: PhaseState, *rest: Any) -> None:
        write(folder, state, *rest)
        if state.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "write_state", write_and_stop)


def test_a_state_hangs_on_every_option_of_its_policy_left_open_or_not(tmp_path: Path) -> None:
    """One of a version with another default is not gone on with."""
    recipe = models.recipe(tmp_path)

    def mark(name: str, **options: object) -> str:
        policy = recipe.policy.model_copy(update={"options": recipe.policy.options | options})
        return settings_digest(PhaseRun(recipe.model_copy(update={"policy": policy}), name, tmp_path))

    assert mark("sparse") == mark("sparse", full=0.0) != mark("sparse", full=0.25)
    assert mark("dense") == mark("dense", full=0.25)  # it has no policy


def test_states_of_earlier_versions_fit(tmp_path: Path) -> None:
    """A shipped recipe's phase has the digest that it had before recipes gained keys; a new key changes it where it says
    another thing than was so then."""
    recipe = load_recipe("street-short")
    assert settings_digest(PhaseRun(recipe, "dense", tmp_path)) == "8bd2ddeb13bcf313"
    half = load_recipe("street-short", ["model.convolutions=half"])
    assert settings_digest(PhaseRun(half, "dense", tmp_path)) != "8bd2ddeb13bcf313"


def test_a_state_of_another_recipe_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "out", only=["dense"])
    for other in (changed(recipe, "dense", lr=2e-3), recipe.model_copy(update={"seed": 1})):
        with pytest.raises(
            InputError, match=r"out/dense holds a run of another recipe, .*; give another --out, or delete"
        ):
            train(other, tmp_path / "out", only=["dense"])
    state = next((tmp_path / "out" / "dense").glob("step-*.safetensors"))
    os.truncate(state, 1000)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        train(recipe, tmp_path / "out", only=["dense"])
    (tmp_path / "out" / "dense" / NAME).write_text("{")
    with pytest.raises(InputError, match=r"training state .* is damaged; delete .*out/dense"):
        train(recipe, tmp_path / "out", only=["dense"])


MADE_OF = {"classes": "[]"}


def test_a_kill_while_a_state_is_written_leaves_the_state_before(tmp_path: Path) -> None:
    model = models.model(models.card("dense", depth=1))
    tensors = state_tensors(model.state_dict(), {}, torch.optim.AdamW(model.parameters()))
    write_state(tmp_path, PhaseState(1, "a", made_of=MADE_OF), tensors)
    (tmp_path / "step-0000002.partial.safetensors").write_text("half")
    (tmp_path / "step-0000002.safetensors").write_text("whole, but not named yet")
    found = read_state(tmp_path, "a")
    assert found is not None and found[0].step == 1 and found[1]["weights"].keys() == model.state_dict().keys()
    write_state(tmp_path, PhaseState(3, "a", made_of=MADE_OF), tensors)
    assert sorted(path.name for path in tmp_path.glob("step-*[0-9].safetensors")) == ["step-0000003.safetensors"]

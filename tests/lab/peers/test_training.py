"""A peer in the product's trainer: it learns, goes on, and its checkpoint is taken for no ViT's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.lab.peers import PEERS, PeerKind, training
from edgeprune.lab.peers.training import PeerTrainer, check_recipe_of_peer, for_a_peer, load_peer, train_peer
from edgeprune.model.checkpoint import save
from edgeprune.quantize.loading import load, read_card
from tests import models
from tests.lab.peers import small


@pytest.fixture(autouse=True)
def a_small_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))


def test_a_peer_learns_from_labels_and_a_teacher(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    described = models.card("dense", depth=1)
    save(teacher, described, models.model(described).state_dict())
    recipe = small.recipe(tmp_path, phase={"frames": 32, "distill": 0.1, "teacher": str(teacher)})
    assert recipe.validation is not None
    recipe.validation.times = 4  # as often are losses reported
    path = train_peer("small", recipe, tmp_path / "out")
    first, *_, last = json.loads((tmp_path / "out" / "crops.json").read_text())
    assert last["loss"] < 0.9 * first["loss"] and "miou" in last
    peer, card = load_peer(path, "small")
    assert card.network == "small" and card.names == models.STREET.names and not peer.training
    assert card.provenance["start"] == "random"


def test_a_later_phase_begins_with_the_one_before_and_a_done_one_is_looked_at(tmp_path: Path) -> None:
    recipe = small.recipe(tmp_path)
    recipe.phases["more"] = recipe.phases["crops"].model_copy(update={"frames": 0})
    out = tmp_path / "out"
    path = train_peer("small", recipe, out)
    before, after = (load_peer(each, "small")[0].state_dict() for each in (out / "crops.safetensors", path))
    assert path.stem == "more" and all(before[key].equal(value) for key, value in after.items())
    assert (out / "samples-crops.png").is_file()  # and it was validated
    train_peer("small", recipe, out)  # done: nothing to do
    with pytest.raises(InputError, match="crops.safetensors is of small, name a checkpoint of dabnet"):
        train_peer("dabnet", recipe, out)


def test_a_stopped_run_goes_on_and_is_no_other_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(PeerTrainer):
        def _save(self) -> None:
            super()._save()
            if self.history.step == 2:
                raise KeyboardInterrupt

    recipe = small.recipe(tmp_path, checkpoint_seconds=0.0, validation=None)
    whole = train_peer("small", recipe, tmp_path / "whole")
    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(training, "PeerTrainer", Stopped)
        train_peer("small", recipe, tmp_path / "out")
    with pytest.raises(InputError, match="holds a run of another recipe"):
        train_peer("dabnet", recipe, tmp_path / "out")
    resumed = train_peer("small", recipe, tmp_path / "out")
    ours, theirs = (load_peer(path, "small")[0].state_dict() for path in (resumed, whole))
    assert all(theirs[key].equal(value) for key, value in ours.items())


def test_a_peers_checkpoint_is_refused_for_a_vits(tmp_path: Path) -> None:
    path = tmp_path / "peer.safetensors"
    card = models.card("dense").model_copy(update={"network": "small"})
    save(path, card, small.Small(small.SPEC).state_dict())
    assert read_card(path, "small") == card
    with pytest.raises(InputError, match="is of small, a peer of the lab, which has no tokens to prune") as refused:
        load(path)
    assert "\n" not in str(refused.value)
    vit = tmp_path / "vit.safetensors"
    save(vit, models.card("dense"), {"a": torch.zeros(1)})
    assert b"network" not in vit.read_bytes()  # earlier versions read it
    with pytest.raises(InputError, match="is of a ViT, name a checkpoint of small"):
        load_peer(vit, "small")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": {"kind": "qat"}}, "phase crops is qat: a peer has no tokens to prune"),
        ({"phase": {"freeze": 2}}, "phase crops: freeze: a peer has no blocks"),
        ({"phase": {"distill_tokens": 1.0}}, "phase crops: distill_tokens: "),
        ({"model": {"height": 64, "width": 96, "depth": 6}}, "model.depth is a ViT's"),
        ({"weights": "zoo:street-tiny/reference"}, "weights are a ViT's"),
        ({"head": "zoo:street-tiny/reference"}, "head: a peer of task semantic has a head of its own"),
        ({"calibration": None}, "give `calibration:`"),
    ],
)
def test_what_a_peer_has_not_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_recipe_of_peer(small.recipe(tmp_path, **changes))


def test_a_vits_recipe_becomes_a_peers(tmp_path: Path) -> None:
    phase = {"distill_tokens": 1.0, "distill": 2.0, "layer_decay": 0.8, "drop_path": 0.1}
    model = {"height": 64, "width": 96, "depth": 6, "stem": "patch"}
    recipe = for_a_peer(small.recipe(tmp_path, phase=phase, model=model, weights="a.safetensors"))
    check_recipe_of_peer(recipe)
    assert recipe.phases["crops"].distill == 2.0 and (recipe.model.height, recipe.model.width) == (64, 96)


def test_an_unknown_peer_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown peer 'dabnt'; choices: dabnet, efficientnet-lite0, .*mean 'dabnet'"):
        train_peer("dabnt", small.recipe(tmp_path), tmp_path / "out")

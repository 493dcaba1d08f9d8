"""A peer as a teacher, of a ViT or of a peer, alone or beside others."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import edgeprune.lab
from edgeprune.base.errors import InputError
from edgeprune.cli.commands import edgeprune as command
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.lab.peers.training import train_peer
from edgeprune.model.checkpoint import save
from edgeprune.model.network import NETWORKS
from edgeprune.quantize.loading import load_network
from edgeprune.train.losses import distance_to_teacher
from edgeprune.train.named import networks_of_teachers
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.tasks import make_task
from edgeprune.train.teachers import load_teachers
from tests import models
from tests.lab.peers import small


@pytest.fixture(autouse=True)
def a_small_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))
    monkeypatch.setitem(NETWORKS, "small", small.Small)


def peer(path: Path, network: str = "small", names: list[str] | None = None) -> str:
    """The checkpoint of a peer that is sure of what it says; its path."""
    card = models.card("dense").model_copy(update={"network": network, "names": names or models.STREET.names})
    torch.manual_seed(0)
    model = NETWORKS.get(network, small.Small)(card.model)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name.startswith("classify"):
                each.mul_(8)
    save(path, card, model.state_dict())
    return str(path)


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    """`dense`, one step, and `sparse`, one step with a teacher."""
    content = models.recipe(folder).model_dump()
    phases = {name: content["phases"][name] | {"frames": 2} for name in ("dense", "sparse")}
    phases["sparse"] |= changes
    return Recipe.model_validate(content | {"phases": phases, "calibration": None})


def test_every_peer_is_a_network_whose_checkpoint_loads(tmp_path: Path) -> None:
    assert NETWORKS.keys() >= PEERS.keys() - {"small"}
    loaded, card = load_network(Path(peer(tmp_path / "peer.safetensors")))
    assert card.network == "small" and isinstance(loaded, small.Small) and not loaded.training
    save(
        tmp_path / "vit.safetensors",
        models.card("dense", depth=1),
        models.model(models.card("dense", depth=1)).state_dict(),
    )
    assert load_network(tmp_path / "vit.safetensors")[1].network is None


def test_a_peer_teaches_beside_a_vit_for_a_step(tmp_path: Path) -> None:
    """Its probabilities are heard; tokens are the ViT's, which is named after it."""
    taught_by = peer(tmp_path / "peer.safetensors")
    recipe = recipe_of(tmp_path, teacher=[taught_by, "dense"], distill_tokens=1.0)
    out = tmp_path / "out"
    [dense, both] = train(recipe, out)
    teachers = load_teachers(PhaseRun(recipe, "sparse", out), torch.device("cpu"))
    said = teachers.teach(models.images(2))
    assert said is not None and said.x_BND is not None and teachers.of_tokens == 1
    assert said.x_BND.shape == (2, models.N, 192)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "dense.safetensors").write_bytes(dense.read_bytes())
    [alone] = train(recipe_of(tmp_path, teacher="dense", distill_tokens=1.0), tmp_path / "alone", only=["sparse"])
    ours, theirs = load_file(both), load_file(alone)
    assert not ours["head.classify.weight"].equal(theirs["head.classify.weight"])


def test_what_a_peer_says_is_read_at_the_pupils_stride(tmp_path: Path) -> None:
    """A pupil of a label for 4x4 pixels learns from a peer, which has one for 2x2."""
    teacher = peer(tmp_path / "peer.safetensors")
    content = recipe_of(tmp_path, teacher=teacher).model_dump()
    content["model"]["label_stride"] = 4
    recipe = Recipe.model_validate(content)
    (tmp_path / "out").mkdir()
    said = load_teachers(PhaseRun(recipe, "sparse", tmp_path), torch.device("cpu")).teach(models.images(2))
    assert said is not None and said.x_BND is None
    task = make_task(recipe, recipe.phases["sparse"], models.STREET, [1 / 11] * 11, torch.device("cpu"))
    card = models.card("dense", depth=1)
    card = card.model_copy(update={"model": card.model.model_copy(update={"label_stride": 4})})
    pupil = models.model(card)(models.images(2))
    assert said.raws[0].shape[-2:] == (32, 48) and pupil.raw.shape[-2:] == (16, 24)
    expected = distance_to_teacher(pupil.raw, torch.nn.functional.interpolate(said.raws[0], (16, 24), mode="bilinear"))
    assert task.distance(pupil, said) == expected > 0


def test_a_peer_learns_from_a_peer_and_from_a_phase_of_its_own(tmp_path: Path) -> None:
    teacher = peer(tmp_path / "peer.safetensors")
    recipe = small.recipe(tmp_path, phase={"distill": 1.0, "teacher": teacher, "frames": 2})
    more = recipe.phases["crops"].model_copy(update={"teacher": ["crops", teacher]})
    recipe.phases["more"] = more
    path = train_peer("small", recipe, tmp_path / "out")
    assert load_network(path)[1].provenance["recipe"]["teacher"] == ["crops", teacher]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distill_tokens": 1.0},
            "phase sparse: .*peer.safetensors: small has no tokens; set distill_tokens: 0, or name a teacher of "
            "model.size tiny, alone or in a list",
        ),
        ({"network": "dabnt"}, "unknown network in checkpoint .*: 'dabnt'; choices: dabnet, .*; did you mean 'dabnet'"),
        (
            {"names": models.STREET.names[::-1]},
            "peer.safetensors knows other classes: .* in the data; name a teacher of",
        ),
        ({"start": True}, "peer.safetensors is of small, a peer of the lab"),
    ],
)
def test_what_a_peer_can_not_teach_is_refused_before_any_training(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    of_file = {key: changes.pop(key) for key in ("network", "names") if key in changes}
    path = peer(tmp_path / "peer.safetensors", **of_file)
    if "start" in changes:
        changes = {"start": path}
    with pytest.raises(InputError, match=message) as found:
        train(recipe_of(tmp_path, teacher=path, **changes), tmp_path / "out")
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()


def test_where_no_study_is_imported_that_is_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = peer(tmp_path / "peer.safetensors")
    for name in list(NETWORKS):
        monkeypatch.delitem(NETWORKS, name)
    with pytest.raises(InputError, match="is of small, and only ViTs .*type `import edgeprune.lab.peers`"):
        train(recipe_of(tmp_path, teacher=path), tmp_path / "out")


def test_the_command_brings_peers_in_where_a_teacher_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = peer(tmp_path / "peer.safetensors", "dabnet")
    recipe = recipe_of(tmp_path, teacher=["dense", teacher])
    assert networks_of_teachers(recipe.phases) == {"dabnet"}
    without = recipe_of(tmp_path, distill=0.0, teacher=None)
    assert networks_of_teachers(without.phases) == set()
    for name in list(NETWORKS):
        monkeypatch.delitem(NETWORKS, name)
    monkeypatch.setattr(edgeprune.lab, "peers", edgeprune.lab.peers)  # put back after
    monkeypatch.delitem(sys.modules, "edgeprune.lab.peers")
    for name, each in (("without", without), ("with", recipe)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(each.model_dump(mode="json")))
        command.main(["train", str(path), "--out", str(tmp_path / name)], standalone_mode=False)
        assert ("dabnet" in NETWORKS) == ("edgeprune.lab.peers" in sys.modules) == (name == "with")
    assert (tmp_path / "with" / "sparse.safetensors").is_file()

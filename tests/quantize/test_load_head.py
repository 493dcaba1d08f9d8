"""A head of one network for another: what is taken, what begins anew, what is refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.card import Card
from edgeprune.model.checkpoint import save
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.loading import load_head, load_start
from tests import models

THINGS = ["background", "box", "plate"]


def card_of(names: list[str], size: str = "tiny", **of: object) -> Card:
    card = models.card("dense", depth=1, stem="patch-conv")
    spec = {"task": "instance", "queries": 4, "classes": len(names), "size": size} | of
    model = type(card.model).model_validate(card.model.model_dump() | spec)
    return card.model_copy(update={"model": model, "names": names, "palette": card.palette[: len(names)]})


def written(path: Path, card: Card) -> Mapping[str, Tensor]:
    """A checkpoint of random weights; these."""
    model = models.model(card, seed=1)
    save(path, card, model.state_dict())
    return model.state_dict()


def changed(model: Segmenter, before: Mapping[str, Tensor]) -> set[str]:
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def state_of(model: Segmenter) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_a_wider_network_takes_all_of_a_head_but_what_reads_its_tokens(tmp_path: Path) -> None:
    given = written(tmp_path / "tiny.safetensors", card_of(THINGS))
    model = models.model(card_of(THINGS, "small"))
    before = state_of(model)
    said = load_head(model, tmp_path / "tiny.safetensors", THINGS)
    taken = {key for key, value in model.state_dict().items() if key in given and torch.equal(value, given[key])}
    assert {"head.classify.weight", "head.heatmap.weight", "head.layers.2.fc1.weight", "stem.stride4.0.weight"} <= taken
    assert not any(key.startswith(("blocks.", "pos_embed", "norm.", "stem.proj")) for key in changed(model, before))
    assert "head.reduce.weight" not in changed(model, before)
    assert said.endswith("tensors of the head; head.reduce begins anew")


@pytest.mark.parametrize("names", [["background", "car", "person"], ["background", "car", "person", "pole"]])
def test_layers_of_other_classes_begin_anew_as_many_or_not(tmp_path: Path, names: list[str]) -> None:
    written(tmp_path / "things.safetensors", card_of(THINGS))
    for load in (load_head, load_start):
        model = models.model(card_of(names))
        before = state_of(model)
        load(model, tmp_path / "things.safetensors", names)
        same = set(before) - changed(model, before)
        of_classes = {f"head.{layer}.{part}" for layer in ("classify", "heatmap") for part in ("weight", "bias")}
        assert of_classes <= same, load
        assert "head.outline.0.weight" not in same


def test_what_is_no_head_for_the_model_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "areas.safetensors", models.card("dense", depth=1, stem="patch-conv"))
    with pytest.raises(
        InputError, match="areas.safetensors is of task semantic, the model of instance; name a checkpoint"
    ):
        load_head(models.model(card_of(THINGS)), tmp_path / "areas.safetensors", THINGS)
    half = models.card("dense", depth=1, stem="patch-conv")
    half.model = half.model.model_copy(update={"convolutions": "half", "size": "small"})
    with pytest.raises(InputError, match="nothing of it fits into the model; name one of as many convolution channels"):
        load_head(models.model(half), tmp_path / "areas.safetensors", ["other"] * 11)
    card = card_of(THINGS)
    tensors = dict(models.model(card).state_dict())
    tensors["head.norm.weight"] = torch.full_like(tensors["head.norm.weight"], torch.nan)
    save(tmp_path / "broken.safetensors", card, tensors)
    with pytest.raises(InputError, match=r"head\.norm\.weight holds values that are no finite numbers"):
        load_head(models.model(card), tmp_path / "broken.safetensors", THINGS)

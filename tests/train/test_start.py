"""What a phase starts with: pretrained weights from a folder, and the levels that these were trained with."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from edgeprune.base.errors import InputError
from edgeprune.model import zoo
from edgeprune.model.checkpoint import save
from edgeprune.quantize.loading import make_model
from edgeprune.train.checks import check_done
from edgeprune.train.fingerprint import contents_of, difference, weights_digest
from edgeprune.train.named import check_named
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.start import card_of, check_start, start_model
from tests import models
from tests.model.vits import vit

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def run_of(folder: Path, phase: str, **model: Any) -> PhaseRun:
    """A phase of a recipe that begins with AugReg's weights in a folder."""
    (folder / "vit").mkdir(exist_ok=True)
    save_file(vit(), folder / "vit" / "model.safetensors")
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(HALF))
    size = {"depth": 3, "stem": "conv", "height": models.HEIGHT, "width": models.WIDTH}
    recipe = models.recipe(folder, weights=str(folder / "vit"), model=size | model)
    return PhaseRun(recipe, phase, folder)


def test_a_first_phase_begins_with_the_head_of_another_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = run_of(tmp_path, "dense")
    card = card_of(plain, models.STREET)
    other = models.model(card.model_copy(update={"model": card.model.model_copy(update={"depth": 1})}), seed=5)
    save(tmp_path / "other.safetensors", card, other.state_dict())
    recipe = plain.recipe.model_copy(update={"head": str(tmp_path / "other.safetensors")})
    first, second = (PhaseRun(recipe, phase, tmp_path) for phase in ("dense", "sparse"))
    check_named(recipe, tmp_path)
    check_start(first)
    with caplog.at_level(logging.INFO):
        model, begun = start_model(first, card, models.model().mean.device, resumes=False)
    assert begun == str(tmp_path / "vit") and model.head.reduce.weight.equal(other.head.reduce.weight)
    (line,) = [line for line in caplog.messages if "of the head" in line]
    assert line.startswith(f"dense: {tmp_path / 'vit'} gives ") and line.endswith("; nothing begins anew")
    # it decides the first phase's weights, and no later one's by itself
    assert contents_of(first)["head"] == weights_digest(tmp_path / "other.safetensors")
    assert "head" not in contents_of(plain) and "head" not in contents_of(second)
    without, given = contents_of(plain), contents_of(first)
    assert difference(without, given) == "it began with weights, the recipe says weights and head"
    assert difference(given, without) == "it began with weights and head, the recipe says weights"
    assert difference(given, given) is None and difference({}, given) is None
    earlier = {key: value for key, value in without.items() if key != "begins"}
    assert difference(earlier, given) == "it began without a `head`" and difference(earlier, without) is None
    missing = recipe.model_copy(update={"head": "zoo:street-tiny/nobody"})
    with pytest.raises(InputError, match="head 'zoo:street-tiny/nobody' is not here"):
        check_start(PhaseRun(missing, "dense", tmp_path))


@pytest.mark.parametrize("named", ["start: zoo", "weights: zoo", "weights: file"])
def test_ranges_that_were_learnt_stay_however_the_checkpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    recipe = models.recipe(tmp_path)
    card = card_of(PhaseRun(recipe, "qat", tmp_path), models.STREET)
    learnt = models.model(card)
    for name, buffer in learnt.state_dict().items():
        if name.endswith("input_quantizer.scale"):
            buffer.fill_(7.0)
    path = tmp_path / "zoo" / "mine" / "qat.safetensors"
    path.parent.mkdir(parents=True)
    save(path, card, learnt.state_dict())
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    key, place = named.split(": ")
    value = "zoo:mine/qat" if place == "zoo" else str(path)
    content = recipe.model_dump() | {"phases": {"qat": recipe.phases["qat"].model_dump()}}
    (content["phases"]["qat"] if key == "start" else content)[key] = value
    run = PhaseRun(type(recipe).model_validate(content), "qat", tmp_path)
    model, _ = start_model(run, card, learnt.mean.device, resumes=False)
    scales = [value for name, value in model.state_dict().items() if name.endswith("input_quantizer.scale")]
    assert len(scales) == 12 and all((scale == 7.0).all() for scale in scales)


def test_a_phase_takes_the_levels_of_its_weights_and_the_next_one_those_of_its_start(tmp_path: Path) -> None:
    run = run_of(tmp_path, "dense")
    check_named(run.recipe, tmp_path)
    check_start(run)
    card = card_of(run, models.STREET)
    assert card.model.normalise == "half" and make_model(card).mean[0, 0, 0] == 127.5
    save(run.checkpoint, card, make_model(card).state_dict())
    assert card_of(run_of(tmp_path, "sparse"), models.STREET).model.normalise == "half"
    check_done(run)  # made by this recipe, which leaves the levels open


def test_a_recipe_that_says_otherwise_wins_and_it_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tmp_path, "dense", normalise="imagenet")
    card = card_of(run, models.STREET)
    assert card.model.normalise == "imagenet"
    with caplog.at_level(logging.INFO):
        start_model(run, card, models.model().mean.device, resumes=False)
    said = [line for line in caplog.messages if "normalise" in line]
    assert said == [f"dense: model.normalise is imagenet, and {tmp_path / 'vit'} was trained with half"]
    agrees = run_of(tmp_path, "dense", normalise="half")
    assert card_of(agrees, models.STREET).model.normalise == "half"

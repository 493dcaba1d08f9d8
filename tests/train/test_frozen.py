"""Frozen blocks: nothing is kept of them for a backward pass, and nothing of them changes."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import save
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.linear import quantized_linears
from edgeprune.train.backend import OneProcess
from edgeprune.train.checks import check_phase
from edgeprune.train.frozen import begin_training, freeze
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.trainer import Trainer
from tests import models
from tests.models import changed


def frozen(blocks: int, stem: str = "patch-conv", policy: str = "dense") -> Segmenter:
    model = models.model(models.card(policy, stem=stem))
    freeze(model, blocks)
    begin_training(model, blocks)
    return model


def test_the_embedding_and_the_first_blocks_ask_for_no_gradient_and_the_heads_branch_does() -> None:
    model = frozen(2)
    asks = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    beginnings = ("blocks.2.", "blocks.3.", "norm.", "head.", "stem.stride")
    assert asks == {name for name, _ in model.named_parameters() if name.startswith(beginnings)}
    model(models.images(2)).raw.sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == asks
    assert all(parameter.requires_grad for parameter in frozen(0).parameters())


@pytest.mark.parametrize("stem", ["conv", "patch-conv"])
def test_statistics_of_norms_stay_where_weights_do_and_no_branch_is_skipped(stem: str) -> None:
    model = frozen(1, stem)
    before = {name: value.clone() for name, value in model.named_buffers()}
    for index in range(4):
        models.block(model, index).drop_path = 0.5
    assert [models.block(model, index).training for index in range(4)] == [False, True, True, True]
    model(models.images(2))
    moved = {name.split(".")[0] for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved == ({"head"} if stem == "conv" else {"head", "stem"})


def saved_bytes(model: Segmenter) -> int:
    """What a forward pass keeps for the backward pass, parameters left out."""
    own, total = {parameter.data_ptr() for parameter in model.parameters()}, 0

    def keep(x: Tensor) -> Tensor:
        nonlocal total
        total += 0 if x.data_ptr() in own else x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(models.images(2), select_all)
    return total


def test_nothing_is_kept_of_frozen_blocks_unless_a_gate_between_them_learns() -> None:
    sizes = [saved_bytes(frozen(blocks, "patch")) for blocks in (4, 3, 2, 1, 0)]
    *of_a_block, of_the_embedding_too = [after - before for before, after in pairwise(sizes)]
    assert len(set(of_a_block)) == 1 and of_the_embedding_too > of_a_block[0] > sizes[0] / 4
    model = frozen(4, "patch", "svit")
    prediction = model(models.images(2))
    (prediction.raw.sum() + prediction.masked.loss).backward()
    gates = [parameter.grad for name, parameter in model.named_parameters() if name.startswith("policy.")]
    assert any(gradient is not None and gradient.any() for gradient in gates)


def test_a_quantized_phase_measures_the_ranges_of_frozen_blocks(tmp_path: Path) -> None:
    card = models.card("dense", depth=3, stem="conv")
    start = tmp_path / "start.safetensors"
    save(start, card, models.model(card).state_dict())
    ranges: list[dict[str, float]] = []
    for blocks, equalise in ((0, False), (2, False), (2, True)):
        recipe = changed(models.recipe(tmp_path), "qat", start=str(start), freeze=blocks, ema=0.9)
        assert recipe.calibration is not None
        recipe.calibration.equalise = equalise
        trainer = Trainer(PhaseRun(recipe, "qat", tmp_path), OneProcess("cpu", False), [1 / 11] * 11, None)
        ranges.append({name: linear.input_step for name, linear in quantized_linears(trainer.model)})
    assert ranges[0] == ranges[1] and len(set(ranges[0].values())) == 12
    differing = {name for name, step in ranges[2].items() if abs(step / ranges[1][name] - 1) > 1e-3}
    assert differing == {"blocks.2.attn.qkv", "blocks.2.attn.proj", "blocks.2.mlp.fc1"}  # no frozen block is equalised
    in_optimiser = {id(p) for group in trainer.optimiser.param_groups for p in group["params"]}
    assert in_optimiser == {id(p) for p in trainer.model.parameters() if p.requires_grad}
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer._take_steps()
    still = ("blocks.0.", "blocks.1.", "stem.", "pos_embed")
    for state in (trainer.model.state_dict(), trainer.average.tensors):
        same = {key for key, value in state.items() if torch.equal(value, before[key])}
        assert {key for key in state if key.startswith(still)} <= same
        assert not any(name in same for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("phase", "keys", "line"),
    [
        ("sparse", {"freeze": 4}, "phase sparse: freeze is 4, and the model has 3 blocks; set at most 3"),
        ("dense", {"freeze": 1}, "phase dense: freeze: 1 would keep random weights, .*; give `weights` or `start`"),
        ("sparse", {"auxiliary": {"blocks": [3]}}, "auxiliary.blocks is .3.; expected rising numbers under the model's 3"),
        ("sparse", {"auxiliary": {"blocks": [2, 1]}}, "auxiliary.blocks is .2, 1.; expected rising numbers"),
        ("sparse", {"auxiliary": {"blocks": [1]}, "freeze": 1}, "where freeze: 1 lets nothing learn from block 1"),
        (
            "sparse",
            {"auxiliary": {"blocks": [2]}, "policy": {"name": "tome"}},
            "auxiliary.blocks is .2., and policy tome merges tokens after 1, so no grid is left there; train the heads",
        ),
    ],
)  # fmt: skip
def test_what_can_be_neither_frozen_nor_taught_is_refused_in_a_line(
    tmp_path: Path, phase: str, keys: dict[str, Any], line: str
) -> None:
    recipe = changed(models.recipe(tmp_path), phase, **keys)
    with pytest.raises(InputError, match=line):
        check_phase(recipe, phase, recipe.phases[phase])

"""Checkpoints of an earlier version, whose policies had other defaults: what they were trained with is what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgeprune.model.checkpoint import HEADER, save
from edgeprune.model.policy import Shape
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import POLICIES, as_trained, chosen_options, make_policy, settle
from edgeprune.quantize.loading import load, read_card
from tests import models

GRID = (24, 32)
EXITS = {"keep": [0.7], "confidence": 0.95, "context": 5}


@pytest.mark.parametrize(
    ("name", "depth", "options", "trained"),
    [
        ("algm", 12, {}, {"proportional": True}),
        ("algm", 12, {"proportional": False}, {}),
        ("dtop", 24, {}, {"exits": [12, 16]}),
        ("dtop", 24, {"exits": None}, {"exits": [12, 16]}),
        ("dtop", 20, {}, {"exits": [10, 13]}),
        ("dtop", 24, {"exits": [3]}, {}),
        ("step", 24, {}, {"exits": [12, 16], "levels": [[8, 0.2], [4, 0.2], [2, 0.15]]}),
        ("step", 12, {"levels": [[16, 0.3], [2, 0.1]], "exits": []}, {"levels": [[2, 0.1]]}),
        ("combined", 24, {"levels": [[16, 0.1], [2, 0.3]], "exits": {"keep": [0.7]}},
         {"levels": [[2, 0.3]], "exits": EXITS | {"exits": [12, 16]}}),
        ("combined", 24, {"gates": {}}, {"levels": []}),
        ("svit", 12, {"reactivation": False}, {"keep": [0.7] * 3 + [0.49] * 3 + [0.343] * 3}),
        ("svit", 12, {"preservation": False, "first": 10, "keep": [0.5]}, {"keep": [0.5, 0.5]}),
        ("svit", 12, {}, {}),
        ("cts-svit", 12, {}, {}),
        ("dense", 12, {}, {}),
    ],
)  # fmt: skip
def test_what_was_left_open_is_what_it_was(
    name: str, depth: int, options: dict[str, Any], trained: dict[str, Any]
) -> None:
    found = as_trained(PolicySpec(name=name, options=options), Shape(192, depth, GRID, 11))
    assert found == PolicySpec(name=name, options=options | trained)
    assert as_trained(found, Shape(192, depth, GRID, 11)) == found


def test_gates_and_exits_are_where_they_were() -> None:
    def gated(name: str, depth: int, **options: Any) -> tuple[int, ...]:
        shape = Shape(192, depth, GRID, 11)
        return make_policy(as_trained(PolicySpec(name=name, options=options), shape), shape).gated

    assert gated("svit", 12, reactivation=False) == tuple(range(3, 12))
    assert gated("dtop", 24) == (12, 16)
    # on a grid that no side divides `step` had exits alone
    odd = Shape(192, 12, (15, 20), 11)
    assert make_policy(as_trained(PolicySpec(name="step"), odd), odd).gated == (6, 8)


def without_preprocess(header: dict[str, Any]) -> None:
    del header["model"]["preprocess"]


def of_another_trainer(header: dict[str, Any]) -> None:
    """`preprocess` was there a little before."""
    header["provenance"] = {"recipe": {"kind": "sparse"}}


# policy, blocks, its options as it was trained, those of them that the earlier header did not have, or had otherwise
EARLIER: list[tuple[str, int, dict[str, Any], dict[str, Any]]] = [
    ("algm", 4, {"proportional": True}, {"proportional": None}),
    ("dtop", 20, {"exits": [10, 13]}, {"exits": None}),
    ("step", 4, {"levels": [[2, 0.15]]}, {"levels": None}),
    ("combined", 4, {"levels": [[2, 0.4]]}, {"levels": [[4, 0.1], [2, 0.4]]}),
    ("svit", 6, {"reactivation": False, "keep": [0.8, 0.8, 0.6, 0.6, 0.4]}, {"keep": [0.8, 0.6, 0.4]}),
]


@pytest.mark.parametrize("make_earlier", [without_preprocess, of_another_trainer])
@pytest.mark.parametrize(("name", "depth", "options", "written"), EARLIER, ids=[row[0] for row in EARLIER])
def test_a_checkpoint_of_an_earlier_version_answers_as_it_was_trained(
    tmp_path: Path,
    name: str,
    depth: int,
    options: dict[str, Any],
    written: dict[str, Any],
    make_earlier: Callable[[dict[str, Any]], None],
) -> None:
    card = models.card(name, depth, **options)
    model, path = models.model(card), tmp_path / "old.safetensors"
    save(path, card, model.state_dict())
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[HEADER])
    then = header["policy"]["options"] | written
    header["policy"]["options"] = {key: value for key, value in then.items() if value is not None}
    make_earlier(header)
    save_file(load_file(path), path, {HEADER: json.dumps(header)})
    again, found = load(path)
    images_23HW = models.images(2)
    with torch.no_grad():
        assert torch.equal(again(images_23HW).raw, model(images_23HW).raw)
    assert found.policy.options.items() >= options.items()


def test_one_of_this_version_is_read_as_it_is(tmp_path: Path) -> None:
    card = models.card("algm")
    save(tmp_path / "new.safetensors", card, models.model(card).state_dict())
    assert read_card(tmp_path / "new.safetensors").policy == card.policy


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_written_leaves_nothing_open(name: str) -> None:
    """So no later default is ever that of a checkpoint of today."""
    given, shape = models.card(name).policy, Shape(192, 4, models.GRID, 11)
    settled = settle(given, shape)
    kind, _ = POLICIES[name]
    assert settled.options.keys() == kind.model_fields.keys()
    assert make_policy(settled, shape).gated == make_policy(given, shape).gated
    assert chosen_options(settled, shape) == {} and settle(settled, shape) == settled


def test_what_a_policy_chooses_is_written() -> None:
    shape = Shape(192, 24, GRID, 11)
    assert settle(PolicySpec(name="dtop"), shape).options["exits"] == [8, 16]
    options = settle(PolicySpec(name="step"), shape).options
    assert options["exits"] == [8, 16] and [side for side, _ in options["levels"]] == [16, 8, 4, 2]
    options = settle(PolicySpec(name="combined", options={"exits": {"keep": [0.7]}}), shape).options
    assert options == {"levels": [], "gates": None, "exits": EXITS | {"exits": [8, 16]}}

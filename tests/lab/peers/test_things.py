"""Peers of the instance task: a convolutional encoder under the head that a ViT has, in the trainer and in graphs."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.lab.peers.__main__ import find_recipe, main
from edgeprune.lab.peers.graphs import PeerGraph, PeerGraphs
from edgeprune.lab.peers.training import check_peer, check_recipe_of_peer, for_a_peer, train_peer
from edgeprune.model.network import NETWORKS
from edgeprune.model.spec import ModelSpec
from edgeprune.quantize.loading import load_network
from edgeprune.runtime.engines import ENGINES
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe
from tests import models
from tests.lab.peers import small
from tests.selected import select_tokens
from tests.train import rectangles

OUTPUTS = ["classes", "scores", "boxes", "masks"]


@pytest.fixture(autouse=True)
def a_small_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "things", PeerKind(small.Things))
    monkeypatch.setitem(NETWORKS, "things", small.Things)
    rectangles.give(monkeypatch)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (48, 80)])
def test_things_are_found_at_the_models_input_and_in_windows(height: int, width: int) -> None:
    """Of a window the features at stride 32 are of no whole pixels."""
    peer = PEERS["efficientnet-lite0"].make(small.SPEC_OF_THINGS)
    prediction = peer(torch.zeros(2, 3, height, width))
    raw = prediction.raw
    assert raw.logits[-1].shape == (2, 8, 4) and raw.boxes[-1].shape == (2, 8, 4)
    assert (
        raw.masks[-1].shape == (2, 8, height // 4, width // 4) and len(raw.masks) > 1
    )  # as it learns, those on the way
    assert prediction.x_BND.shape == (2, 0, 0) and prediction.masked.keep_GBN == []
    assert peer.label_map(raw).shape == (height // 4, width // 4)


def test_the_encoder_is_that_of_the_semantic_task() -> None:
    labels, things = (
        PEERS["efficientnet-lite0"].make(spec).state_dict() for spec in (small.SPEC, small.SPEC_OF_THINGS)
    )
    encoder = {key: value.shape for key, value in labels.items() if key.startswith("encoder.")}
    assert {key: value.shape for key, value in things.items() if key.startswith("encoder.")} == encoder
    assert {key.split(".")[0] for key in labels} == {"encoder", "lateral", "smooth", "classify"}
    assert {key.split(".")[0] for key in things} == {"encoder", "norm", "head"}


def test_every_scale_of_features_reaches_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    peer, images_B3HW = small.Things(small.SPEC_OF_THINGS).eval(), models.images(1)
    peer.begin()
    answers = []
    with torch.no_grad():
        features = peer.features(peer.normalised(images_B3HW))
        for blank in (None, 0, 1, 2, 3):
            given = [each * (index != blank) for index, each in enumerate(features)]
            monkeypatch.setattr(peer, "features", lambda _, given=given: given)
            answers.append(peer.logits(images_B3HW).masks[-1])
    assert [torch.equal(answers[0], each) for each in answers] == [True, False, False, False, False]


def test_a_peer_without_such_a_head_is_refused_before_any_training(tmp_path: Path) -> None:
    recipe = small.recipe_of_things(tmp_path)
    with pytest.raises(InputError, match="unknown task of dabnet 'instance'; choices: semantic"):
        train_peer("dabnet", recipe, tmp_path / "out")
    check_peer("dabnet")
    assert not (tmp_path / "out").exists()


def test_a_peer_learns_things_and_from_an_earlier_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = rectangles.stand_in(monkeypatch)
    recipe = small.recipe_of_things(tmp_path, frames=32)
    taught = recipe.phases["crops"].model_copy(update={"frames": 4, "distill": 1.0, "teacher": "crops"})
    recipe.phases["taught"] = taught
    assert recipe.validation is not None
    recipe.validation.times = 4
    path = train_peer("things", recipe, tmp_path / "out")
    first, *_, last = json.loads((tmp_path / "out" / "crops.json").read_text())
    assert last["loss"] < 0.9 * first["loss"] and "mask_ap" in last and "miou" not in last
    assert scored and (tmp_path / "out" / "samples-taught.png").is_file()
    peer, card = load_network(path)
    assert (card.network, card.model.task, card.names) == ("things", "instance", rectangles.NAMES)
    assert isinstance(peer, small.Things) and not peer.training and card.provenance["start"] == "crops"
    label_hw = select_tokens(peer, rectangles.Rectangles([0], True)[0].image_HW3)[1]
    assert label_hw.shape == (16, 24) and set(np.unique(label_hw)) <= {0, 1, 2, 255}


def apart(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """How far two answers are from each other in where their things are, on average over pixels, 0 to 1; in whatever order."""
    assert list(ours) == list(theirs) and all(ours[name].shape == theirs[name].shape for name in OUTPUTS)
    return float(np.abs(ours["masks"].mean(0) - theirs["masks"].mean(0)).mean() / 255)


def test_the_command_trains_exports_and_scores_things(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    content = small.recipe_of_things(tmp_path, lr=1e-6).model_dump(mode="json", exclude_unset=True)
    recipe.write_text(yaml.safe_dump(content))
    said = CliRunner().invoke(main, ["things", str(recipe), "--out", str(out)], standalone_mode=False)
    assert said.exception is None, said.exception
    header, _, *lines = said.stdout.splitlines()
    assert header.split()[3:] == ["mask", "AP", "AP50", "APs", "box", "AP", "graph"]
    rows = [line.split() for line in lines if line.startswith("things")]
    assert [row[1:3] for row in rows[:4]] == [[p, e] for e in ("onnxruntime", "openvino") for p in ("fp32", "int8")]
    assert all(0 <= float(row[3]) <= 1 for row in rows)
    columns = (out / "peer.csv").read_text().splitlines()[0]
    assert columns == "peer,precision,engine,mask_ap,mask_ap50,mask_ap_small,box_ap,graph"

    peer, card = load_network(out / "crops.safetensors")
    assert isinstance(peer, small.Things)
    graphs = PeerGraphs(out, card)
    frames = [sample.image_HW3 for sample in rectangles.Rectangles(range(8), False)]
    manifest = graphs.seen_by("openvino", load_target("onnx-cpu").runtime()).manifest
    assert (manifest.task, manifest.outputs) == ("instance", OUTPUTS)
    assert (manifest.label_height, manifest.label_width) == (16, 24)

    with torch.no_grad():
        answers = [[each.numpy() for each in PeerGraph(peer)(torch.from_numpy(frame_HW3))] for frame_HW3 in frames]
    expected = [dict(zip(OUTPUTS, each, strict=True)) for each in answers]
    between_frames = np.mean([apart(one, other) for one in expected for other in expected if one is not other])

    def from_pytorch(engine: str, path: Path) -> float:
        graph = ENGINES[engine].open_graph(path, 1)
        return float(np.mean([apart(ours, graph(frame)) for ours, frame in zip(expected, frames, strict=True)]))

    assert from_pytorch("onnxruntime", graphs.fp32) < 1e-3 < 0.05 < between_frames
    for engine in ("onnxruntime", "openvino"):
        assert 1e-3 < from_pytorch(engine, graphs.int8(engine)) < 0.7 * between_frames
        constants = onnx.load(graphs.int8(engine)).graph.initializer
        quantized = [len(each.dims) for each in constants if each.data_type == onnx.TensorProto.INT8]
        assert quantized.count(4) >= len(peer.stages) and quantized.count(2) == 0  # no linear of the head


def test_the_recipe_that_comes_with_it_has_the_budget_of_the_vits() -> None:
    recipe, vits = find_recipe("car-damage-peer", []), load_recipe("car-damage-instances")
    check_recipe_of_peer(recipe)
    ours, theirs = recipe.phases["crops"], vits.phases["crops"]
    for key in ("data", "frames", "batch", "crop_height", "crop_width", "lr", "ema", "augment", "guided"):
        assert getattr(ours, key) == getattr(theirs, key), key
    for key in ("task", "queries", "mask_extent", "height", "width", "classes", "preprocess"):
        assert getattr(recipe.model, key) == getattr(vits.model, key), key
    assert recipe.calibration == vits.calibration and recipe.head == vits.head


def test_a_vits_recipe_of_things_becomes_a_peers(tmp_path: Path) -> None:
    """It keeps what is said of the head; another's queries teach it nothing, an earlier phase's do."""
    vit = {"task": "instance", "queries": 8, "convolutions": "half", "patch": 14, "stem": "patch-conv", "size": "small"}
    content = small.recipe_of_things(tmp_path, distill=1.0, teacher="dense.safetensors").model_dump()
    content["model"] = vit | {"height": 448, "width": 112, "classes": 3}
    content["phases"]["taught"] = content["phases"]["crops"] | {"teacher": "crops", "layer_decay": 0.8}
    recipe = for_a_peer(Recipe.model_validate(content))
    check_recipe_of_peer(recipe)
    assert recipe.model == ModelSpec(task="instance", queries=8, convolutions="half", height=448, width=112, classes=3)
    assert [(phase.distill, phase.teacher) for phase in recipe.phases.values()] == [(0.0, None), (1.0, "crops")]
    content["model"]["width"] = 98
    with pytest.raises(InputError, match="of a peer: model: width: expected a multiple of the patch, 16"):
        for_a_peer(Recipe.model_validate(content))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"task": "instance", "patch": 16},
            "model.patch is a ViT's; a peer's model has classes, convolutions, height, ",
        ),
        ({"convolutions": "half"}, "model.convolutions is a ViT's; a peer's model has classes, height, patch, "),
        ({"task": "instances"}, "unknown task of a peer 'instances'; choices: semantic, instance; did you mean"),
    ],
)
def test_keys_of_the_model_are_those_of_the_task(tmp_path: Path, model: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_recipe_of_peer(small.recipe(tmp_path, model=model | {"height": 64, "width": 96}))

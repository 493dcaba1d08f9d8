"""What the command writes: graphs that answer as PyTorch does, scored by the code that scores a bundle's."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.lab.peers import PEERS, PeerKind
from edgeprune.lab.peers import __main__ as command
from edgeprune.lab.peers.__main__ import find_recipe, main
from edgeprune.lab.peers.graphs import PeerGraphs
from edgeprune.lab.peers.scoring import PeerRow
from edgeprune.lab.peers.training import check_recipe_of_peer, load_peer
from edgeprune.runtime.engines import ENGINES
from tests import models
from tests.lab.peers import small


def test_the_command_trains_exports_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(small.recipe(tmp_path).model_dump(mode="json", exclude_unset=True)))
    typed = ["small", str(recipe), "--out", str(out), "--set", "phases.crops.frames=16"]
    said = CliRunner().invoke(main, typed, standalone_mode=False)
    assert said.exception is None, said.exception
    names = ["small-fp32.onnx", "small-int8-onnxruntime.onnx", "small-int8-openvino.onnx"]
    assert f"next: edgeprune bench {' '.join(f'--baseline {out / name}' for name in names)}\n" in said.stdout
    rows = [line.split() for line in said.stdout.splitlines() if line.startswith("small")]
    assert [row[1:3] for row in rows[:4]] == [[p, e] for e in ("onnxruntime", "openvino") for p in ("fp32", "int8")]
    assert all(0 <= float(row[3]) <= 1 for row in rows)

    peer, card = load_peer(out / "crops.safetensors", "small")
    frames_FHW3 = models.frames(4)
    with torch.no_grad():
        expected_FHW = peer(models.images(4)).raw.argmax(dim=1).to(torch.uint8).numpy()

    def agreement(engine: str, path: Path) -> float:
        graph = ENGINES[engine].open_graph(path, 1)
        return float(np.mean([graph(frame)["labels"] for frame in frames_FHW3] == expected_FHW))

    graphs = PeerGraphs(out, card)
    manifest = graphs.seen_by("openvino", load_target("onnx-cpu").runtime()).manifest
    assert (manifest.task, manifest.outputs) == ("semantic", ["labels"])
    assert (manifest.label_height, manifest.label_width) == (32, 48)
    assert agreement("onnxruntime", graphs.fp32) > 0.999
    assert 0.8 < agreement("onnxruntime", graphs.int8("onnxruntime")) < 1
    assert 0.8 < agreement("openvino", graphs.int8("openvino-bf16")) < 1
    for name in names[1:]:
        constants = onnx.load(out / name).graph.initializer
        assert sum(each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4 for each in constants) == 3
    with pytest.raises(InputError, match="unknown engine for a peer 'tensorrt'; choices: onnxruntime, openvino"):
        graphs.int8("tensorrt")


def test_a_drive_that_is_left_out_is_scored_and_another_part_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "small", PeerKind(small.Small))
    monkeypatch.setattr(command, "ROUTES", {})  # no engine's INT8
    scored: list[str] = []

    def score_peer(graphs: PeerGraphs, engines: Any, target: Any, data: Any, precisions: Any) -> list[PeerRow]:
        scored.extend(data[1].names)
        return [PeerRow("small", "fp32", "none", {"miou": 0.5}, str(graphs.fp32))]

    monkeypatch.setattr(command, "score_peer", score_peer)
    data, path = models.write_frames(tmp_path, 20), tmp_path / "recipe.yaml"
    validation = {"data": data, "split": "train", "hold_out": 0.2, "keep": "best", "times": 1, "frames": 2}
    recipe = small.recipe(
        tmp_path,
        phase={"data": [{"data": data}], "frames": 2},
        validation=validation,
        calibration={"data": data, "frames": 8},
    )
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    typed = ["small", str(path), "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="keep: best chooses by the frames that would be scored"):
        CliRunner().invoke(command.main, typed, catch_exceptions=False)
    assert not (tmp_path / "out").exists()
    said = CliRunner().invoke(command.main, [*typed, "--leave-out", f"{data}:1-*"], catch_exceptions=False)
    assert "0.5000" in said.stdout and scored == [f"1-{index:03d}" for index in range(10, 20)]
    _, card = load_peer(tmp_path / "out" / "crops.safetensors", "small")
    assert card.provenance["validation"]["exclude"] == ["1-*"] and "best" in card.provenance


def test_the_recipe_that_comes_with_it_is_a_peers() -> None:
    recipe = find_recipe("camvid-peer", ["phases.crops.frames=800"])
    check_recipe_of_peer(recipe)
    assert recipe.phases["crops"].steps == 100 and recipe.validation is not None

"""What a head takes: differences within a round, on graphs of a bundle."""

import csv
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.export.inputs import BuildInputs
from edgeprune.lab.head_time import Row, main, row_of, write_stem
from edgeprune.model.checkpoint import save
from edgeprune.model.segmenter import as_image
from edgeprune.runtime.engines import ENGINES
from tests import models


def test_a_head_is_what_both_take_less_the_stem_round_by_round() -> None:
    """A round in which the machine was slow is one of its own."""
    row = row_of("onnxruntime", "int8", [2.0, 4.0, 2.0], [5.0, 10.0, 4.0], [10.0, 30.0, 10.0])
    assert row == Row("onnxruntime", "int8", 2.0, 3.0, 10.0, 0.2, 0.2, 0.3)


def test_the_graph_of_the_stem_gives_what_the_stem_gives(tmp_path: Path) -> None:
    model = models.model(models.card(stem="conv"))
    write_stem(model, tmp_path / "stem.onnx")
    names = [value.name for value in onnx.load(tmp_path / "stem.onnx").graph.output]
    assert names == ["tokens", "skip0", "skip1"]
    frame_HW3 = models.frames(1)[0]
    found = ENGINES["onnxruntime"].open_graph(tmp_path / "stem.onnx", 1)(frame_HW3)
    with torch.no_grad():
        x_BND, skips, _ = model.embed(as_image(torch.from_numpy(frame_HW3)))
    np.testing.assert_allclose(found["tokens"], x_BND[0].numpy(), atol=1e-4)
    for name, skip_1CHW in zip(names[1:], skips, strict=True):
        np.testing.assert_allclose(found[name], skip_1CHW.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_a_row_for_each_engine(cpu: Bundle, inputs: BuildInputs, tmp_path: Path) -> None:
    typed = [
        str(cpu.folder),
        str(inputs.checkpoint),
        "--rounds",
        "2",
        "--frames",
        "2",
        "--out",
        str(tmp_path / "rows.csv"),
    ]
    found = CliRunner().invoke(main, [*typed, "--engine", "onnxruntime"], catch_exceptions=False)
    assert found.exit_code == 0 and "head of auto" in found.output
    with (tmp_path / "rows.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["engine"] == "onnxruntime" and float(row["auto_ms"]) > 0
    assert float(row["least"]) <= float(row["share"]) <= float(row["most"])


def test_what_the_bundle_was_not_built_from_is_refused(cpu: Bundle, tmp_path: Path) -> None:
    """Stem and head of another checkpoint would be told apart by a stem that is not theirs."""
    described = models.card()
    save(tmp_path / "other.safetensors", described, models.model(described).state_dict())
    with pytest.raises(
        InputError, match="was not built from .*other.safetensors; name the checkpoint that it was built"
    ):
        CliRunner().invoke(main, [str(cpu.folder), str(tmp_path / "other.safetensors")], catch_exceptions=False)

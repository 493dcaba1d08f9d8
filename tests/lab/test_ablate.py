"""The same weights under other selections."""

from pathlib import Path

import pytest
import torch

from edgeprune.base.table import plain
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.selection import CalibrationFrames
from edgeprune.lab.ablate import Scoring, ablate_depth, ablate_int8, ablate_selection
from edgeprune.lab.token_selection import reactivation
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import calibrate_thresholds
from edgeprune.quantize.linear import quantized_linears
from edgeprune.train.tasks.instance_scores import score_things
from tests import models
from tests.export import instances
from tests.train import rectangles
from tests.train.rectangles import Rectangles


@pytest.fixture
def street(tmp_path_factory: pytest.TempPathFactory) -> str:
    return models.write_street(tmp_path_factory.mktemp("street"))


def test_selections_of_a_gated_model(street: str, said: list[str]) -> None:
    model = models.model(models.card(depth=4))
    thresholds, occupancy = calibrate_thresholds(model, models.images(8))
    calib = Calib(
        model="tiny", data=street, split="train", frames=["0"] * 8,
        thresholds={"fp32": thresholds}, occupancy={"fp32": occupancy},
    )  # fmt: skip
    data_set = load_data_set(street)
    said.clear()
    result = ablate_selection(Scoring(model, data_set, open_split(data_set, "val"), 4, detail=True), calib, 2)
    rows = {(row.selection, row.seed): row for row in result.rows}
    assert set(rows) == {
        ("all", None),
        ("learned", None),
        ("threshold", None),
        ("random", 0),
        ("random", 1),
        ("uniform", None),
        ("staggered", None),
        ("bypass", None),
    }
    assert rows["all", None].tokens == 1.0
    assert rows["bypass", None].tokens == 0.25  # one ungated block of four
    assert rows["random", 0].tokens == rows["learned", None].tokens < 1.0
    lost = rows["all", None].figures["miou"] - rows["bypass", None].figures["miou"]
    assert result.depth_is_worth_points == pytest.approx(100 * lost)
    assert rows["uniform", None].tokens == rows["staggered", None].tokens == rows["learned", None].tokens
    assert rows["uniform", None].figures != rows["staggered", None].figures
    assert len(said) == 8
    for row in rows.values():
        known = [iou for iou in row.figures["per_class_iou"].values() if iou is not None]
        assert sum(known) / len(known) == pytest.approx(row.figures["miou"], abs=1e-6)
        assert 0 < row.figures["boundary_f"] < 1
    assert result.decisions is not None
    assert [each.block for each in result.decisions] == [gate + 1 for gate in model.policy.gated]
    assert result.decisions[0].returned == 0.0


def test_tokens_that_return() -> None:
    policy = models.model(models.card(depth=4)).policy
    keep_GBN = torch.tensor([[[1.0, 1, 0, 0]], [[0, 1, 1, 1]], [[1, 1, 0, 0]]])
    rows = reactivation(policy, keep_GBN)
    assert [row.kept for row in rows] == [0.5, 0.75, 0.5]
    assert [row.returned for row in rows] == pytest.approx([0, 2 / 3, 1 / 2])


def test_first_blocks_of_a_dense_model(street: str) -> None:
    model = models.model(models.card(policy="dense", depth=3))
    data_set = load_data_set(street)
    result = ablate_depth(Scoring(model, data_set, open_split(data_set, "val"), 2), 1)
    assert [row.selection for row in result.rows] == ["all", "first 1 blocks"]
    assert len(model.blocks) == 3


def test_int8_of_a_model_without_and_with_trained_ranges(street: str) -> None:
    data_set = load_data_set(street)
    spec = CalibrationFrames(data=street, frames=8)
    plain = models.model(models.card(depth=3, stem="conv"))
    rows = ablate_int8(plain, data_set, open_split(data_set, "val"), spec, 4)
    ptq = [
        "all linears, PTQ min-max",
        "all linears, PTQ least error",
        "all linears, PTQ 99.99%",
        "all linears, PTQ 99.9%",
    ]
    kinds = [f"{kind} alone, PTQ min-max" for kind in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    nncf = ["none: float, as a graph", "NNCF PTQ: bias correction", "NNCF PTQ: smoothing, bias correction"]
    assert [row.int8 for row in rows] == ["none: float", *ptq, *nncf, *kinds]
    assert not any(True for _ in quantized_linears(plain))  # the model that was given stays as it was
    for row in rows[1:]:
        # NNCF's are against a float graph, which says what the float model says
        assert row.lost_points == pytest.approx(100 * (rows[0].figures["miou"] - row.figures["miou"]), abs=1e-4)
        assert len(row.agreement_by_gate or []) == 2 and 0.5 < (row.agreement or 0) <= 1
    # one kind alone disturbs the selection no more than all together do, give or take a token
    assert max((row.agreement or 0) for row in rows[8:]) >= (rows[1].agreement or 0)

    trained = models.model(models.card(depth=3, stem="conv", quantized=True))
    rows = ablate_int8(trained, data_set, open_split(data_set, "val"), spec, 4)
    ranges = ["all linears, trained ranges", "MLPs alone, trained ranges"]
    assert [row.int8 for row in rows] == ["none: float", *ranges, *ptq[:2], *kinds]
    assert rows[1].agreement_by_gate != rows[2].agreement_by_gate


def test_int8_of_a_method_without_graphs_goes_without_nncf(street: str, said: list[str]) -> None:
    data_set = load_data_set(street)
    spec = CalibrationFrames(data=street, frames=8)
    rows = ablate_int8(models.model(models.card("ats", depth=3)), data_set, open_split(data_set, "val"), spec, 2)
    names = [row.int8 for row in rows]
    assert len(names) == 9 and not any("NNCF" in name for name in names)
    assert [line for line in said if line.startswith("NNCF's rows are left out, it works on graphs: ATS drops")]


# ------------------------------------------------------------------------------------------------ models of things


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every data set has rectangles; the mean of the best scores stands for their AP."""
    rectangles.give(monkeypatch)
    rectangles.stand_in(monkeypatch)
    return rectangles.write_set(tmp_path)


def test_selections_of_a_model_of_things_are_judged_by_its_own_figure(things: str, said: list[str]) -> None:
    model = instances.model(rectangles.things_card())
    samples = Rectangles(range(10), True)
    result = ablate_selection(Scoring(model, load_data_set(things), samples, 9, detail=True), None, 2)
    rows = {(row.selection, row.seed): row for row in result.rows}
    ap = {key: row.figures["mask_ap"] for key, row in rows.items()}
    assert all(row.figures.keys() == {"mask_ap"} for row in result.rows) and len(set(ap.values())) == len(ap) == 7
    assert result.depth_is_worth_points == pytest.approx(100 * (ap["all", None] - ap["bypass", None]))
    assert result.random_mean == pytest.approx((ap["random", 0] + ap["random", 1]) / 2)
    assert rows["all", None].tokens == 1.0 and rows["bypass", None].tokens == round(1 / 3, 4)
    assert rows["random", 0].tokens == rows["learned", None].tokens < 1.0
    assert ap["learned", None] == score_things(model, load_data_set(things), samples, 9)
    assert f"learned: mask AP {ap['learned', None]:.4f} at {rows['learned', None].tokens:.1%} of the tokens" in said
    assert plain(result)["rows"][0] == {"selection": "all", "seed": None, "tokens": 1.0, "mask_ap": ap["all", None]}
    assert result.decisions is not None and len(result.decisions) == 2


def test_int8_of_a_model_of_things_as_a_network_and_as_graphs(things: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NNCF itself is left out: its graphs are the float model's here."""
    monkeypatch.setattr("edgeprune.lab.ablate.int8_graph.quantize_linears_of_graph", lambda proto, *_: proto)
    model = instances.model(rectangles.things_card())
    spec, samples = CalibrationFrames(data=things, frames=8), Rectangles(range(4), True)
    rows = {row.int8: row for row in ablate_int8(model, load_data_set(things), samples, spec, 3)}
    as_float = rows["none: float"]
    assert as_float.figures == {"mask_ap": score_things(model, load_data_set(things), samples, 3)}
    for name in ("none: float, as a graph", "NNCF PTQ: bias correction"):
        assert rows[name].figures["mask_ap"] == pytest.approx(as_float.figures["mask_ap"], abs=1e-3)
        assert rows[name].lost_points == 0.0 and rows[name].agreement == 1.0
    quantized = rows["all linears, PTQ min-max"]
    lost = as_float.figures["mask_ap"] - quantized.figures["mask_ap"]
    assert quantized.lost_points == pytest.approx(100 * lost) != 0.0

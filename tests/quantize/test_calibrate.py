"""Calibration: thresholds that hit their targets gate after gate, and the YAML that a build reads."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.reading import parse
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region
from edgeprune.data.selection import CalibrationFrames
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_over
from edgeprune.quantize import calibrate as module
from edgeprune.quantize.calib import Calib, read_calib
from edgeprune.quantize.calibrate import (
    calibrate,
    calibrate_thresholds,
    calibration_frames,
    ptq_ranges,
    quantile,
    write_calib,
)
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.ranges import apply_ranges
from tests import models

F = 12


@pytest.mark.parametrize("policy", ["svit", "random"])
def test_thresholds_keep_the_target_shares_of_all_frames_together(policy: str) -> None:
    model = models.model(models.card(policy, keep=[0.7, 0.45, 0.2]))
    thresholds, occupancy_FG = calibrate_thresholds(model, models.images(F))
    assert len(thresholds) == 3 and np.shape(occupancy_FG) == (F, 3)
    assert np.mean(occupancy_FG, axis=0) == pytest.approx([0.7, 0.45, 0.2], abs=1 / models.N)
    if policy == "svit":  # the rate is dynamic: frames differ
        assert np.ptp(occupancy_FG, axis=0).min() > 1 / models.N


def test_occupancy_is_what_the_thresholds_keep() -> None:
    model = models.model()
    thresholds, occupancy_FG = calibrate_thresholds(model, models.images(F))
    keeps = model(models.images(F), select_over(thresholds)).masked.keep_GBN
    expected_FG = torch.stack([keep_FN.mean(-1) for keep_FN in keeps], -1)
    torch.testing.assert_close(torch.tensor(occupancy_FG), expected_FG)
    # one frame at a time, as the engine does: nothing depends on batch mates
    for index in range(3):
        keeps = model(models.images(1, 100 + index), select_over(thresholds)).masked.keep_GBN
        assert [float(keep.mean()) for keep in keeps] == pytest.approx(occupancy_FG[index], abs=1 / models.N)


def test_a_gate_is_calibrated_on_what_the_gates_before_it_let_through() -> None:
    tight = calibrate_thresholds(models.model(models.card(keep=[0.1, 0.5, 0.5])), models.images(F))[0]
    wide = calibrate_thresholds(models.model(models.card(keep=[0.9, 0.5, 0.5])), models.images(F))[0]
    assert tight[0] > wide[0]
    assert abs(tight[1] - wide[1]) > 1e-3  # same weights, same target, other input


def street(folder: Path, **changes: object) -> CalibrationFrames:
    return CalibrationFrames.model_validate(
        {"data": models.write_street(folder), "split": "test", "frames": 8} | changes
    )


def test_frames_are_spread_evenly_over_the_split(tmp_path: Path) -> None:
    names, images_F3HW = calibration_frames(street(tmp_path), Preprocess(models.HEIGHT, models.WIDTH))
    assert names == [f"street-{6000 + index}" for index in (0, 3, 5, 8, 11, 14, 16, 19)]
    assert images_F3HW.dtype == torch.uint8 and torch.equal(images_F3HW[1].float(), models.images(1, 6003)[0])
    names, images_F3HW = calibration_frames(street(tmp_path, split="train"), Preprocess(32, 48))
    assert len(names) == len(set(names)) == 8 and images_F3HW.shape == (8, 3, 32, 48)


def test_a_region_is_calibrated_alone_and_written_as_a_picture(tmp_path: Path) -> None:
    rows = ["......", "...#..", "######", "######"]
    model, whole = (models.model(models.card(depth=2, keep=[0.5])) for _ in range(2))
    model.restrict(Region(tuple(rows)))
    calib = calibrate(model, street(tmp_path), "tiny")
    counts_F = np.array(calib.occupancy["fp32"])[:, 0] * 13  # shares of the tokens inside
    assert counts_F == pytest.approx(np.rint(counts_F)) and np.mean(counts_F) == pytest.approx(6.5, abs=0.5)
    write_calib(tmp_path / "calib.yaml", calib)
    assert read_calib(tmp_path / "calib.yaml").region == rows
    assert (tmp_path / "calib.yaml").read_text().endswith('region:\n- "......"\n- "...#.."\n- "######"\n- "######"\n')
    write_calib(tmp_path / "whole.yaml", calibrate(whole, street(tmp_path), "tiny"))
    assert "region:" not in (tmp_path / "whole.yaml").read_text()  # an older edgeprune reads it


def test_fewer_frames_than_a_quantile_needs_are_refused(tmp_path: Path) -> None:
    """In a set that has no more, as where fewer are asked for."""
    with pytest.raises(
        InputError, match="has 4 frames to calibrate on in its split val; expected 8 or more: name another"
    ):
        calibration_frames(street(tmp_path, split="val"), Preprocess(32, 48))
    with pytest.raises(InputError, match="frames"):
        parse(CalibrationFrames, {"data": "street", "frames": 2}, "recipe")


@pytest.mark.parametrize("policy", ["svit", "cts-svit", "algm", "tome", "step", "ats", "evit"])
def test_however_many_frames_a_few_at_a_time_pass_the_network(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And thresholds and occupancy are those of all frames in one batch."""
    model, frames, seen = models.model(models.card(policy)), models.images(19), list[int]()
    watched = model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    thresholds, occupancy_FG = calibrate_thresholds(model, frames)
    gates = len(model.policy.gated)
    assert max(seen) == module.BATCH and sorted(set(seen)) == [3, 8] and len(seen) == 3 * (gates + 1)
    watched.remove()
    monkeypatch.setattr(module, "BATCH", len(frames))
    at_once, occupancy_at_once_FG = calibrate_thresholds(model, frames)
    assert thresholds == pytest.approx(at_once, rel=1e-4, abs=1e-4)
    assert np.asarray(occupancy_FG) == pytest.approx(np.asarray(occupancy_at_once_FG), abs=1.01 / models.N)


class Elsewhere(torch.nn.Module):
    """Stands for a model on another device, `meta`, which every torch has: its images must be there. Its scores come from there
    as they would from a GPU, but for their values, which `meta` has none of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))
        self.policy = SimpleNamespace(schedule=SimpleNamespace(candidate_shares=(0.25,)))
        self.seen: list[int] = []

    def forward(self, images_B3HW: torch.Tensor, select: Select) -> SimpleNamespace:
        assert images_B3HW.device == self.weight.device and images_B3HW.dtype == torch.float32
        self.seen.append(len(images_B3HW))
        scores_BN = torch.arange(8.0).expand(len(images_B3HW), 8)
        return SimpleNamespace(masked=SimpleNamespace(keep_GBN=[select(0, scores_BN)]))


def test_frames_go_to_the_device_of_the_model() -> None:
    model = Elsewhere()
    images_F3HW = torch.zeros(19, 3, 4, 4, dtype=torch.uint8)
    thresholds, occupancy_FG = calibrate_thresholds(cast(Segmenter, model), images_F3HW)
    assert model.seen == [8, 8, 3] * 2 and images_F3HW.device.type == "cpu"
    assert 5 <= thresholds[0] < 6 and occupancy_FG == [[0.25]] * 19


def test_ranges_are_measured_a_few_frames_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = models.model(models.card(depth=2, quantized=True)), list[int]()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    ranges = ptq_ranges(model, street(tmp_path, frames=20, percentile=100))
    assert seen == [8, 8, 4]
    monkeypatch.setattr(module, "BATCH", 20)
    at_once = ptq_ranges(model, street(tmp_path, frames=20, percentile=100))
    assert ranges == pytest.approx(at_once, rel=1e-5)  # of min-max each frame's largest counts, in whatever batch


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.51, 0.999, 1.0])
def test_quantiles_are_torchs_to_the_bit(size: int, share: float) -> None:
    values_S = torch.randn(size, generator=torch.Generator().manual_seed(size))
    assert quantile(values_S, share) == float(values_S.quantile(share))
    assert quantile(torch.zeros(size), share) == 0.0


def test_a_full_temporary_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", Full)
    with pytest.raises(RunError, match="no space left for calibration frame 1 in .*free some, or set TMPDIR"):
        calibration_frames(street(tmp_path), Preprocess(32, 48))


def test_calib_of_a_quantized_model_and_its_yaml(tmp_path: Path) -> None:
    model = models.model(models.card(depth=3, quantized=True))
    calib = calibrate(model, street(tmp_path), "tiny")
    assert set(calib.thresholds) == set(calib.occupancy) == {"fp32", "int8"}
    assert calib.thresholds["fp32"] != calib.thresholds["int8"]
    assert len(calib.frames) == 8 and np.shape(calib.occupancy["int8"]) == (8, 2)
    assert all(linear.enabled for _, linear in quantized_linears(model))
    assert calib.ranges == {name: pytest.approx(linear.input_step * 127) for name, linear in quantized_linears(model)}

    path = tmp_path / "calib-qat.yaml"
    write_calib(path, calib)
    again = read_calib(path)
    assert again.thresholds == calib.thresholds and again.ranges == calib.ranges and again.frames == calib.frames
    counts_FG = np.asarray(again.occupancy["int8"]) * models.N
    assert counts_FG == pytest.approx(np.asarray(calib.occupancy["int8"]) * models.N, abs=1e-3)
    assert sorted(file.name for file in tmp_path.glob("calib*")) == ["calib-qat.yaml"]


def test_calib_of_a_float_and_of_a_dense_model(tmp_path: Path) -> None:
    calib = calibrate(models.model(models.card(depth=2)), street(tmp_path), "tiny")
    assert set(calib.thresholds) == {"fp32"} and calib.ranges == {}
    calib = calibrate(models.model(models.card("dense", depth=2)), street(tmp_path), "tiny")
    assert calib.thresholds == calib.occupancy == {}


def test_ptq_ranges_of_a_gated_model_repeat_themselves(tmp_path: Path) -> None:
    model = models.model(models.card(depth=3, quantized=True))
    torch.manual_seed(1)
    first = ptq_ranges(model, street(tmp_path))
    torch.manual_seed(2)
    assert ptq_ranges(model, street(tmp_path)) == first  # gates are not sampled
    assert set(first) == {name for name, _ in quantized_linears(model)}
    largest = ptq_ranges(model, street(tmp_path, percentile=100.0))
    lower = ptq_ranges(model, street(tmp_path, percentile=99.0))
    assert all(lower[name] < largest[name] and first[name] <= largest[name] for name in first)
    apply_ranges(model, first)


def test_a_calibration_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibration .*calib-x.yaml is not there"):
        read_calib(tmp_path / "calib-x.yaml")
    path = tmp_path / "calib.yaml"
    path.write_text("model: a\ndata: b\nsplit: train\nframes: []\nthreshold: {}\n")
    with pytest.raises(InputError, match="unknown key 'threshold'.*did you mean 'thresholds'"):
        read_calib(path)
    path.write_text("thresholds: [1\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_calib(path)


def test_a_write_that_fails_leaves_no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.yaml, "safe_dump", fail)
    with pytest.raises(RunError, match="no space left while writing calibration"):
        write_calib(tmp_path / "calib.yaml", Calib(model="a", data="b", split="train", frames=[]))
    assert list(tmp_path.iterdir()) == []


def test_thresholds_of_another_model_are_refused() -> None:
    calib = Calib(model="a", data="street", split="train", frames=[], thresholds={"fp32": [0.1, 0.2]})
    assert calib.thresholds_for("fp16", 2) == [0.1, 0.2]
    for precision, gates in (("fp32", 3), ("int8", 2)):
        with pytest.raises(
            InputError, match=f"calibration of a has . thresholds for {precision}, the model {gates} gates"
        ):
            calib.thresholds_for(precision, gates)


@pytest.mark.parametrize(
    "wrong", [{"occupancy": {"fp32": [[1.5]]}}, {"ranges": {"a": -1.0}}, {"thresholds": {"fp32": [float("nan")]}}]
)
def test_figures_of_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="input should be"):
        parse(Calib, {"model": "a", "data": "street", "split": "train", "frames": []} | wrong, "a.yaml")

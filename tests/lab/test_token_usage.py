"""Which tokens things get: what is counted by hand, and the study from a checkpoint to its folder."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.instances import Instances
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.lab.frame_parts import PARTS, per_token, pixels_of_parts, size_of, things_of
from edgeprune.lab.token_usage import UsageSums, main
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calibrate import calibrate, write_calib
from tests import models
from tests.export import instances
from tests.train import rectangles

SPLIT = StreetSplit(seed=0, frames=1)
DATA = DataSet(name="things", train=SPLIT, val=SPLIT, names=["road", "car", "person"], things=["car", "person"])
SIZE = (64, 96)
GRID = (4, 6)


def sample(label_HW: np.ndarray, things: Instances | None = None) -> Sample:
    return Sample("frame", np.zeros((*label_HW.shape, 3), np.uint8), label_HW, things)


def pixels(of: Sample, fit: Preprocess | None = None, data_set: DataSet = DATA) -> dict[str, np.ndarray]:
    return pixels_of_parts(of, things_of(of, data_set), data_set.ignore_index, fit or Preprocess(*SIZE), GRID)


# ------------------------------------------------------------------------------------------------ what lies where


def test_what_hangs_together_in_a_label_map_is_a_thing() -> None:
    label_HW = np.zeros(SIZE, np.uint8)
    label_HW[4:10, 4:10] = 1
    label_HW[10, 10] = 1  # touches its corner
    label_HW[4:10, 10:14] = 2  # another class beside it
    label_HW[40:50, 60:70] = 1
    label_HW[60:, :] = DATA.ignore_index
    things = things_of(sample(label_HW), DATA)
    assert sorted(zip(things.classes_I.tolist(), things.areas().tolist(), strict=True)) == [(1, 37), (1, 100), (2, 24)]
    found = pixels(sample(label_HW))
    assert found["inside"].sum() == found["small"].sum() == 161 and not found["large"].any()
    assert found["outside"].sum() == 60 * 96 - 161
    assert found["inside"].reshape(GRID)[0, 0] == 37 + 24 and found["inside"].reshape(GRID)[2, 3:5].tolist() == [32, 48]
    nothing = things_of(sample(np.zeros(SIZE, np.uint8)), DATA)
    assert len(nothing) == 0 and nothing.size == SIZE


def test_things_count_by_their_size_in_the_frame_and_crowds_for_nothing() -> None:
    masks = [np.zeros(SIZE, bool) for _ in range(4)]
    masks[0][:40, :40] = True  # medium
    masks[1][30:40, 30:50] = True  # small, in part over it
    masks[2][50:, 50:] = True  # a crowd
    masks[3][:, 90:] = True  # of stuff
    things = Instances.of([1, 2, 2, 0], masks, SIZE, [False, False, True, False])
    found = pixels(sample(np.zeros(SIZE, np.uint8), things))
    assert found["medium"].sum() == 1600 and found["small"].sum() == 200 and found["inside"].sum() == 1700
    assert found["outside"].sum() == 64 * 96 - 1700 - 14 * 46 and not found["large"].any()


def test_bars_are_no_part_of_the_frame_and_sizes_are_those_of_its_own_pixels() -> None:
    """A frame of 128x128 lies in the middle of the input, 64 wide, at half its size."""
    mask_HW = np.zeros((128, 128), bool)
    mask_HW[:64, :64] = True
    found = pixels(sample(np.zeros((128, 128), np.uint8), Instances.of([1], [mask_HW], (128, 128))))
    assert found["medium"].sum() == found["inside"].sum() == 32 * 32 and not found["small"].any()
    assert found["outside"].sum() == 64 * 64 - 32 * 32
    assert found["outside"].reshape(GRID)[:, [0, 5]].sum() == 0
    assert [size_of(area) for area in (1, 1024, 1025, 9216, 9217)] == ["small", "small", "medium", "medium", "large"]


def test_label_maps_without_things_are_refused() -> None:
    with pytest.raises(InputError, match="'things' has label maps and names no classes that are things; add `things:"):
        things_of(sample(np.zeros(SIZE, np.uint8)), DATA.model_copy(update={"things": []}))


def test_pixels_of_tokens() -> None:
    mask_HW = np.zeros((4, 6), bool)
    mask_HW[1, :3] = mask_HW[3, 5] = True
    assert per_token(mask_HW, (2, 3)).tolist() == [2, 1, 0, 0, 0, 1]


# ------------------------------------------------------------------------------------------------ sums


def test_usage_by_hand() -> None:
    """Three tokens, five blocks, decisions before all but the first."""
    here_LN = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]], bool)
    amounts = {"inside": [4, 0, 0], "outside": [0, 2, 2], "small": [4, 0, 0], "medium": [0, 0, 0], "large": [0, 0, 0]}
    sums = UsageSums([2, 3, 4, 5], 5)
    for _ in range(2):  # means over frames that are alike
        sums.add(here_LN, np.ones(3, bool), {name: np.array(each) for name, each in amounts.items()})
    second, third, fourth, fifth, over_all = sums.rows()
    assert [row.block for row in sums.rows()] == ["2", "3", "4", "5", "all"]
    assert [row.processed for row in sums.rows()] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3, 10 / 15])
    assert [row.reactivated for row in sums.rows()[:-1]] == pytest.approx([0.0, 1 / 3, 1 / 3, 1 / 3])
    assert [row.returned for row in sums.rows()[:-1]] == pytest.approx([0.0, 1 / 3, 1 / 3, 0.0])
    assert over_all.reactivated is None and over_all.returned is None and over_all.used_later is None
    assert (second.used_later, second.used_next) == (1.0, 0.5)
    assert (third.used_later, third.used_next) == (1.0, 1.0)
    assert (fourth.used_later, fourth.used_next) == (0.0, None) and fifth.used_later == 0.0
    assert [row.inside for row in sums.rows()] == [row.small for row in sums.rows()] == [1.0] * 5
    assert [row.outside for row in sums.rows()] == pytest.approx([0.0, 0.5, 0.5, 0.5, 0.5])
    assert over_all.medium is None and over_all.large is None


def test_outside_a_region_nothing_is_counted() -> None:
    here_LN, there_N = np.array([[1, 1, 0], [1, 0, 0]], bool), np.array([1, 1, 0], bool)
    sums = UsageSums([2], 2)
    sums.add(here_LN, there_N, {name: np.array([1, 1, 5]) for name in PARTS})
    second, over_all = sums.rows()
    assert (second.processed, second.outside, second.used_later) == (0.5, 0.5, 0.0)
    assert over_all.processed == over_all.inside == 0.75


# ------------------------------------------------------------------------------------------------ the study


def type_in(*words: object) -> str:
    said = CliRunner().invoke(main, [str(word) for word in words], standalone_mode=False)
    if isinstance(said.exception, EdgepruneError):
        raise said.exception
    assert said.exception is None, said.exception
    return said.output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_things_of_coco(tmp_path: Path) -> None:
    checkpoint, card = tmp_path / "things.safetensors", rectangles.things_card(depth=3)
    save(checkpoint, card, instances.model(card).state_dict())
    data = rectangles.write_coco(tmp_path / "coco")
    said = type_in(checkpoint, "--data", data, "--frames", 3, "--out", tmp_path / "out")
    assert "3 frames; gates keep the best tokens at the target ratios: no calibration; things: 6 small" in said
    usage, frames = rows_of(tmp_path / "out" / "usage.csv"), rows_of(tmp_path / "out" / "frames.csv")
    assert [row["block"] for row in usage] == ["2", "3", "all"]
    covered = [float(np.logical_or(*rectangles.masks_of(index)).mean()) for index in (0, 2, 3)]
    inside = sum(covered) / 3
    for row in usage:  # all pixels are inside or outside
        both = inside * float(row["inside"]) + (1 - inside) * float(row["outside"])
        assert both == pytest.approx(float(row["processed"])) and row["small"] == row["inside"]
        assert row["medium"] == row["large"] == ""
    assert [(row["frame"], row["things"]) for row in frames] == [(f"frame-{index:02d}", "2") for index in (0, 2, 3)]
    pictures = sorted((tmp_path / "out" / "frames").iterdir())
    assert [path.name for path in pictures] == [
        f"000{place}-frame-{index:02d}.png" for place, index in enumerate((0, 2, 3), 1)
    ]
    picture_HW3 = np.asarray(Image.open(pictures[0]))
    assert picture_HW3.shape == (64, 192, 3)
    bottom = max(int(np.flatnonzero(mask_HW.any(1))[-1]) for mask_HW in rectangles.masks_of(0))
    assert (picture_HW3[bottom] == 255).all(-1).sum() == 2 * 36  # the lower edge of the plate, on both halves
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        type_in(checkpoint, "--data", data, "--out", tmp_path / "out")


def test_a_model_of_areas_on_label_maps_at_calibrated_thresholds(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the plot")
    checkpoint, data = tmp_path / "svit.safetensors", models.write_street(tmp_path)
    model = models.model()
    save(checkpoint, models.card(), model.state_dict())
    write_calib(tmp_path / "calib-svit.yaml", calibrate(model, CalibrationFrames(data=data, frames=8), "tiny"))
    said = type_in(checkpoint, "--data", data, "--out", tmp_path / "out")
    assert "4 frames; gates cut at calibrated thresholds; things: " in said and "of the tokens: processed" in said
    frames = rows_of(tmp_path / "out" / "frames.csv")
    assert len({row["processed"] for row in frames}) > 1  # the dynamic rate
    usage = rows_of(tmp_path / "out" / "usage.csv")
    share = sum(float(row["processed"]) for row in frames) / len(frames)
    assert float(usage[-1]["processed"]) == pytest.approx(share) and float(usage[0]["reactivated"]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "usage.png")).std() > 5


@pytest.mark.parametrize("what", ["dense", "no things"])
def test_what_has_nothing_to_show_is_refused(tmp_path: Path, what: str) -> None:
    dense = what == "dense"
    card = models.card("dense" if dense else "svit", depth=2)
    save(tmp_path / "a.safetensors", card, models.model(card).state_dict())
    data = Path(models.write_street(tmp_path))
    if not dense:
        data.write_text(yaml.safe_dump(yaml.safe_load(data.read_text()) | {"things": []}))
    message = "is dense: every block processes every token" if dense else "names no classes that are things"
    with pytest.raises(InputError, match=message):
        type_in(tmp_path / "a.safetensors", "--data", data, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()

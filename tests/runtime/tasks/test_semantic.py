"""How alike two label maps are, how sure one is, and which of its pixels a result has."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.tasks import Agreement, FrameFacts, find_task, open_task
from tests import bundles


def test_pixels_that_count_are_compared() -> None:
    expected_hw = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    got_hw = np.array([[0, 1, 7], [3, 9, 9]], np.uint8)
    agreement = find_task("semantic").agreement
    assert agreement({"labels": expected_hw}, {"labels": got_hw}) == Agreement(3, 6)
    sure_hw = np.array([[True, True, True], [False, False, False]])
    assert agreement({"labels": expected_hw}, {"labels": got_hw}, sure_hw) == Agreement(2, 3)
    assert (Agreement(3, 6) + Agreement(2, 3)).share == 5 / 9 and Agreement(0, 0).share == 1


def test_confidence_is_of_the_frames_own_pixels_and_there_where_the_bundle_has_it(
    tmp_path: Path,
) -> None:
    manifest = bundles.write_bundle(tmp_path / "bundle").manifest
    task, (height, width) = open_task(manifest), (manifest.label_height, manifest.label_width)
    labels_hw, wide_HW3 = (
        np.zeros((height, width), np.uint8),
        np.zeros((manifest.height // 2, manifest.width, 3), np.uint8),
    )
    facts = FrameFacts(Frame(0, wide_HW3, 0), "full", "full", 24, 1.0, 10.0, 0, 10**6, 0.1, 0.2, 0.3, 0.4)
    without = task.result(facts, {"labels": labels_hw})
    assert without.confidence is None and without.mean_confidence is None
    bars_hw = np.full((height, width), 255, np.uint8)  # above and below the frame the network is sure
    top, _, tall, _ = Preprocess.of(manifest).placement(*wide_HW3.shape[:2])
    stride = manifest.height // height
    bars_hw[top // stride : (top + tall) // stride] = 51
    result = task.result(facts, {"labels": labels_hw, "confidence": bars_hw})
    assert result.confidence is not None and result.mean_confidence == 0.2
    np.testing.assert_array_equal(result.confidence, np.full(wide_HW3.shape[:2], 51, np.uint8))


def test_outside_a_region_there_are_no_labels(tmp_path: Path) -> None:
    """At the frame's own pixels, each way eight times the labels'."""
    manifest = bundles.write_bundle(tmp_path / "bundle", region=["......", "######", "######", "###..."]).manifest
    label_hw = np.full((bundles.ROWS, bundles.COLUMNS), 3, np.uint8)
    frame = Frame(0, np.zeros((32, 48, 3), np.uint8), 0, None)
    facts = FrameFacts(frame, "full", "full", 1, 1.0, 1.0, 0, 1, 0.0, 0.0, 0.0, 0.0)
    sure_hw = np.full_like(label_hw, 51)
    result = find_task("semantic")(manifest).result(facts, {"labels": label_hw, "confidence": sure_hw})
    labels_HW = result.labels
    assert (labels_HW[:8] == 255).all() and (labels_HW[24:, 24:] == 255).all()
    assert (labels_HW[8:24] == 3).all() and (labels_HW[24:, :24] == 3).all()
    assert result.confidence is not None and result.mean_confidence == 0.2  # inside alone
    np.testing.assert_array_equal(result.confidence, np.where(labels_HW == 255, 0, 51))
    assert (label_hw == 3).all() and (sure_hw == 51).all()  # an engine's own buffers stay as they are


def test_areas_are_shares_of_what_has_a_class(tmp_path: Path) -> None:
    """Of a region those inside; counted at the frame's own pixels."""
    for region, inside in ((None, 48), (["......", "######", "######", "###..."], 30)):
        folder = tmp_path / ("whole" if region is None else "part")
        manifest = bundles.write_bundle(folder, region=region).manifest
        label_hw = np.full((bundles.ROWS, bundles.COLUMNS), 3, np.uint8)
        label_hw[1, :2] = 1  # two cells of 24, or of 15 that are inside
        frame = Frame(0, np.zeros((32, 48, 3), np.uint8), 0, None)
        facts = FrameFacts(frame, "full", "full", 1, 1.0, 1.0, 0, 1, 0.0, 0.0, 0.0, 0.0)
        areas = find_task("semantic")(manifest).result(facts, {"labels": label_hw}).areas()
        assert list(areas) == list(manifest.names)
        assert areas[manifest.names[1]] == pytest.approx(4 / inside) and sum(areas.values()) == pytest.approx(1.0)
        assert {name for name, share in areas.items() if share} == {manifest.names[1], manifest.names[3]}
    nothing_hw = np.full_like(label_hw, 255)
    assert set(find_task("semantic")(manifest).result(facts, {"labels": nothing_hw}).areas().values()) == {0.0}


def test_an_unknown_task_is_answered_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown task 'semntic'.*did you mean 'semantic'"):
        find_task("semntic")

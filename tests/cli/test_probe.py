"""`probe`: what it measures on, when a drive alone is scored."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from edgeprune.calibrate import calibration_frames
from edgeprune.checkpoint import save
from edgeprune.config import Calibration
from tests import models
from tests.cli.conftest import Type


@pytest.fixture
def two_drives(tmp_path: Path) -> str:
    """Twelve street scenes as files, A_00 to A_05 and B_00 to B_05."""
    for index in range(12):
        image_HW3, label_HW = models.scene(index)
        for folder, array in (("images", image_HW3), ("labels", label_HW)):
            path = tmp_path / folder / f"{'AB'[index // 6]}_{index % 6:02}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
    split = {"images": "images", "labels": "labels"}
    content: dict[str, Any] = {"name": "drives", "path": str(tmp_path), "train": split, "val": split}
    content |= {"names": models.STREET.names, "palette": models.STREET.palette, "ignore_index": 255}
    path = tmp_path / "drives.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    return str(path)


@pytest.mark.parametrize(
    ("split", "seen"),
    [("train", {"A"}), ("val", {"A", "B"})],
)
def test_ptq_is_not_calibrated_on_the_drive_that_is_scored(
    edgeprune: Type, two_drives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, seen: set[str]
) -> None:
    calibrations: list[Calibration] = []
    scored: list[list[str]] = []

    def probe_int8(model: Any, data_set: Any, samples: Any, calibration: Calibration, *_: Any) -> dict[str, Any]:
        calibrations.append(calibration)
        scored.append(samples.names)
        return {"rows": []}

    monkeypatch.setattr("edgeprune.probe.probe_int8", probe_int8)
    checkpoint = tmp_path / "svit.safetensors"
    save(checkpoint, models.card(), models.model().state_dict())
    said = edgeprune(
        "probe", checkpoint, "--data", two_drives, "--split", split, "--include", "B*", "--int8", "--json"
    )  # fmt: skip
    assert said.code == 0 and json.loads(said.out) == {"rows": []}
    assert {name[0] for name in scored[0]} == {"B"}
    names, _ = calibration_frames(calibrations[0], 64, 96)
    assert {name[0] for name in names} == seen


def test_detail_shows_boundaries_classes_and_what_returns(edgeprune: Type, two_drives: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "svit.safetensors"
    save(checkpoint, models.card(), models.model().state_dict())
    said = edgeprune("probe", checkpoint, "--data", two_drives, "--frames", 2, "--seeds", 1, "--detail")
    assert said.code == 0
    for head in ("boundary F", "bicyclis", "of them let go before", "uniform"):
        assert head in said.out
    said = edgeprune("probe", checkpoint, "--data", two_drives, "--int8", "--detail")
    assert said.code == 2 and "--int8 has no use for --detail" in said.err

"""`ablate`: what it measures on, when a drive alone is scored."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calibrate import calibration_frames
from tests import models
from tests.cli.conftest import Type


@pytest.fixture
def drives(tmp_path: Path) -> str:
    """Street scenes as files: A_00 to A_07 and B_00 to B_07 in train, other frames of B and a drive C in val."""
    for seed, name in enumerate(
        [f"train/{drive}_{frame:02}" for drive in "AB" for frame in range(8)] + ["val/B_09", "val/C_00"]
    ):
        image_HW3, label_HW = models.scene(seed)
        for folder, array in (("images", image_HW3), ("labels", label_HW)):
            path = tmp_path / f"{name.replace('/', f'/{folder}/')}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(array).save(path)
    content: dict[str, Any] = {"name": "drives", "path": str(tmp_path), "ignore_index": 255}
    content |= {split: {"images": f"{split}/images", "labels": f"{split}/labels"} for split in ("train", "val")}
    content |= {"names": models.STREET.names, "palette": models.STREET.palette}
    path = tmp_path / "drives.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    return str(path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "svit.safetensors"
    save(path, models.card(), models.model().state_dict())
    return path


@pytest.mark.parametrize(
    ("words", "scored", "calibrated"),
    [
        (["--split", "train", "--include", "B*"], {"B"}, {"A"}),
        (["--split", "val", "--include", "B*"], {"B"}, {"A"}),
        (["--split", "val"], {"B", "C"}, {"A", "B"}),
    ],
)
def test_a_drive_that_is_scored_alone_is_not_calibrated_on(
    edgeprune: Type,
    drives: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    scored: set[str],
    calibrated: set[str],
) -> None:
    seen: list[tuple[Any, CalibrationFrames]] = []

    def ablate_int8(model: Any, data_set: Any, samples: Any, calibration: CalibrationFrames, *_: Any) -> list[Any]:
        seen.append((samples, calibration))
        return []

    monkeypatch.setattr("edgeprune.lab.ablate.ablate_int8", ablate_int8)
    said = edgeprune("ablate", "int8", checkpoint, "--data", drives, *words, "--json")
    assert said.code == 0 and json.loads(said.out) == {"rows": []}
    [(samples, calibration)] = seen
    names, _ = calibration_frames(calibration, Preprocess(models.HEIGHT, models.WIDTH))
    assert ({name[0] for name in samples.names}, {name[0] for name in names}) == (scored, calibrated)


def test_frames_that_are_all_calibrated_on_are_not_scored(edgeprune: Type, drives: str, checkpoint: Path) -> None:
    said = edgeprune("ablate", "int8", checkpoint, "--data", drives, "--split", "train")
    assert (
        said.code == 2 and "calibrates on the train split; to score frames of it, name them with --include" in said.err
    )


def test_detail_shows_boundaries_classes_and_what_returns(edgeprune: Type, drives: str, checkpoint: Path) -> None:
    said = edgeprune("ablate", "selection", checkpoint, "--data", drives, "--frames", 2, "--seeds", 1, "--detail")
    assert said.code == 0
    for head in ("boundary F", "bicyclis", "of them let go before", "uniform"):
        assert head in said.out

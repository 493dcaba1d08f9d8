"""`ablate`: what it measures on, when a drive alone is scored."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.lab.ablate.int8 import Int8Row
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calibrate import calibration_frames
from tests import models
from tests.cli.conftest import Type
from tests.export import instances
from tests.train import rectangles


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


@pytest.mark.parametrize("verb", ["selection", "int8"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda names: names[::-1],
            "class 0 is .* in data set 'drives' but 'sky' in checkpoint .*svit.safetensors; put the",
        ),
        (
            lambda names: names[:-1],
            "data set 'drives' has 10 classes, checkpoint .*svit.safetensors 11; score it on data",
        ),
    ],
)
def test_data_of_other_classes_is_refused(
    edgeprune: Type, drives: str, checkpoint: Path, verb: str, change: Callable[[list[str]], list[str]], words: str
) -> None:
    """A figure would come out all the same, of classes that are not those."""
    content = yaml.safe_load(Path(drives).read_text())
    del content["palette"]
    Path(drives).write_text(yaml.safe_dump(content | {"names": change(content["names"])}))
    said = edgeprune("ablate", verb, checkpoint, "--data", drives)
    assert said.code == 2 and re.search(words, said.err) and len(said.err.splitlines()) == 1


def test_a_label_of_no_class_is_told_before_anything_is_scored(edgeprune: Type, drives: str, checkpoint: Path) -> None:
    path = Path(drives).parent / "val" / "labels" / "C_00.png"
    Image.fromarray(np.full((models.HEIGHT, models.WIDTH), 77, np.uint8)).save(path)
    said = edgeprune("ablate", "selection", checkpoint, "--data", drives)
    assert said.code == 2 and "C_00.png has id 77" in said.err


def test_detail_shows_boundaries_classes_and_what_returns(edgeprune: Type, drives: str, checkpoint: Path) -> None:
    said = edgeprune("ablate", "selection", checkpoint, "--data", drives, "--frames", 2, "--seeds", 1, "--detail")
    assert said.code == 0
    for head in ("boundary F", "bicyclis", "of them let go before", "uniform"):
        assert head in said.out


def test_rows_have_the_keys_that_they_always_had(edgeprune: Type, drives: str, checkpoint: Path) -> None:
    words = ("ablate", "selection", checkpoint, "--data", drives, "--frames", 2, "--seeds", 1)
    plain, detailed = (json.loads(edgeprune(*words, *more, "--json").out) for more in ([], ["--detail"]))
    keys = ["selection", "seed", "tokens", "miou"]
    assert [list(row) for row in plain["rows"]] == [keys] * 6
    assert [list(row) for row in detailed["rows"]] == [[*keys, "boundary_f", "per_class_iou"]] * 6
    assert list(detailed["rows"][0]["per_class_iou"]) == models.STREET.names
    assert list(detailed) == ["rows", "depth_is_worth_points", "random_mean", "decisions"]
    said = edgeprune(*words)
    assert said.out.splitlines()[0].split() == ["selection", "seed", "tokens", "mIoU"]
    assert "points of mIoU" in said.out.splitlines()[-1] and "mIoU" in said.err


def test_things_are_judged_by_average_precision(edgeprune: Type, tmp_path: Path, drives: str) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")
    checkpoint, card = tmp_path / "things.safetensors", rectangles.things_card()
    save(checkpoint, card, instances.model(card).state_dict())
    words = ("ablate", "selection", checkpoint, "--seeds", 1, "--data")
    data = rectangles.write_coco(tmp_path / "coco")
    said = edgeprune(*words, data, "--frames", 2)
    assert said.code == 0, said.err
    heads = said.out.splitlines()[0].split()
    assert heads[:5] == ["selection", "seed", "tokens", "mask", "AP"] and "APs" in heads and "box" in heads
    assert said.out.splitlines()[-1].endswith("points of mask AP") and "learned: mask AP" in said.err
    said = edgeprune(*words, data, "--frames", 2, "--detail")
    assert "boundary F" not in said.out and "plate" in said.out and "of them let go before" in said.out
    [first, *_] = json.loads(edgeprune(*words, data, "--frames", 2, "--detail", "--json").out)["rows"]
    assert first["per_class_mask_ap"].keys() == {"box", "plate"} and 0 <= first["mask_ap"] <= 1
    said = edgeprune(*words, drives)
    assert said.code == 2 and "label maps, which tell no thing of a class from the next" in said.err


def test_int8_shows_the_figure_of_the_task(
    edgeprune: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drives: str, checkpoint: Path
) -> None:
    for figure, shown in (("miou", "mIoU"), ("mask_ap", "mask AP")):
        rows = [Int8Row("none: float", {figure: 0.5}, 0.0, None, None)]
        monkeypatch.setattr("edgeprune.lab.ablate.ablate_int8", lambda *_, rows=rows: rows)
        said = edgeprune("ablate", "int8", checkpoint, "--data", drives)
        assert said.out.splitlines()[0].split("  ")[0] == "in INT8" and shown in said.out.splitlines()[0]
        assert said.out.splitlines()[2].split() == ["none:", "float", "0.5000", "0.00", "-", "-"]
        content = json.loads(edgeprune("ablate", "int8", checkpoint, "--data", drives, "--json").out)
        assert list(content["rows"][0]) == ["int8", figure, "lost_points", "agreement", "agreement_by_gate"]

"""`eval` of a bundle whose graphs answer with things, on a data set of COCO's JSON."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.data.instances import Mask
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.tasks.things import read_things
from tests import bundles
from tests.cli.conftest import Type

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")

SIZE = (bundles.H, bundles.W)


def run_lengths(mask_HW: Mask) -> list[int]:
    lengths = [len(list(alike)) for _, alike in groupby(mask_HW.T.reshape(-1).tolist())]
    return [0, *lengths] if mask_HW[0, 0] else lengths


def write_data_set(folder: Path) -> Path:
    """Four frames with the things that every graph of the tiny bundle finds there, and one of class3 that none does."""
    (folder / "images").mkdir()
    lost_HW = np.zeros(SIZE, np.bool_)
    lost_HW[:20, :20] = True
    labelled = [(1, 3, lost_HW)]
    for image in range(1, 5):
        frame_HW3 = bundles.frame_with(4 * image - 1, seed=image)
        Image.fromarray(frame_HW3).save(folder / "images" / f"{image}.png")
        things = read_things(bundles.expected_things(frame_HW3), bundles.NAMES, Preprocess(*SIZE), SIZE, 0.01)
        labelled += [(image, thing.class_id, thing.mask_HW) for thing in things]
    size = {"height": SIZE[0], "width": SIZE[1]}
    annotations = [
        {"id": number, "image_id": image, "category_id": class_id, "iscrowd": 0}
        | {"segmentation": {"size": list(SIZE), "counts": run_lengths(mask_HW)}}
        for number, (image, class_id, mask_HW) in enumerate(labelled, 1)
    ]
    content = {
        "images": [{"id": image, "file_name": f"{image}.png"} | size for image in range(1, 5)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(bundles.NAMES)],
        "annotations": annotations,
    }
    (folder / "things.json").write_text(json.dumps(content))
    split = {"images": "images", "labels": "things.json", "format": "coco"}
    about = {"name": "tiny", "path": ".", "train": split, "val": split, "names": bundles.NAMES}
    (folder / "tiny.yaml").write_text(json.dumps(about | {"things": bundles.NAMES[1:5]}))
    return folder / "tiny.yaml"


def test_eval_scores_things(edgeprune: Type, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", task="instance").folder
    measured = ("eval", "--bundle", bundle, "--data", write_data_set(tmp_path))
    rows = {(row["bucket"], row["precision"]): row for row in json.loads(edgeprune(*measured, "--json").out)["rows"]}
    assert {("dense", "fp32"), ("quarter", "int8"), ("auto", "int8")} <= set(rows)
    by_class = {"class1": pytest.approx(1), "class2": pytest.approx(1), "class3": 0.0, "class4": pytest.approx(1)}
    for row in rows.values():
        assert row["per_class_mask_ap"] == row["per_class_box_ap"] == by_class
        assert row["mask_ap"] == row["box_ap"] == pytest.approx(0.75)
    shown = edgeprune(*measured, "--precision", "fp32").out
    assert "mask AP by class:" in shown and "APs: of things of under 32x32 pixels" in shown
    said = edgeprune("eval", "--bundle", bundle, "--data", "street")
    assert said.code == 2 and "label maps, which tell no thing of a class from the next" in said.err

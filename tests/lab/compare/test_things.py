"""`compare` of models that answer with things: trained, built or scored in PyTorch, timed, judged by average precision."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from edgeprune.base.reading import shipped
from edgeprune.cli.commands import edgeprune
from edgeprune.data.datasets import load_data_set
from edgeprune.data.polygons import encode_runs
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.street_instances import plan_splits, write_data_set
from edgeprune.evaluate.tasks import METRICS
from edgeprune.lab.compare.run import score_in_torch
from edgeprune.lab.compare.spec import Plan
from edgeprune.model.checkpoint import Card, save
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.one_frame import outputs_of
from edgeprune.quantize.loading import read_card
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks.things import read_things
from edgeprune.train.validation import best_tokens
from tests import models
from tests.export import instances

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")

FIGURES = METRICS["instance"].brief
OF_LABELS = set(METRICS["semantic"].brief)


# ------------------------------------------------------------------------------------------------ from end to end


def write_inputs(folder: Path) -> Path:
    """A copy of the plan of CI, with what it names: things of small scenes, a recipe of four steps a phase, a checkpoint that
    is sure of what it sees, and a target of few buckets."""
    street = load_data_set(models.write_street(folder))
    (folder / "set").mkdir()
    write_data_set(folder / "set", street, plan_splits(street, {"train": 8, "val": 3, "test": 1}, 1))
    data_set = load_data_set(str(folder / "set"))
    recipe = models.recipe(folder).model_dump(mode="json")
    recipe["model"] |= {"task": "instance", "queries": instances.QUERIES, "depth": 2, "classes": len(data_set.names)}
    recipe["calibration"]["data"] = "set"
    recipe["phases"]["reference"] = recipe["phases"]["dense"] | {"start": "dense"}
    for phase in recipe["phases"].values():
        phase["data"] = [{"data": "set"}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    model = ModelSpec.model_validate(recipe["model"])
    card = Card(name="dense", model=model, policy=PolicySpec(), names=data_set.names, palette=data_set.palette)
    save(folder / "dense.safetensors", card, instances.model(card).state_dict())
    target = yaml.safe_load((shipped("targets") / "onnx-cpu.yaml").read_text())
    (folder / "target.yaml").write_text(yaml.safe_dump(target | {"buckets": {"count": 2, "multiple": 4}}))
    return Path(shutil.copy(Path(__file__).with_name("instances.yaml"), folder))


def test_rows_are_trained_scored_timed_and_judged_by_average_precision(tmp_path: Path) -> None:
    plan, out = write_inputs(tmp_path), tmp_path / "out"
    asked = ["compare", str(plan), "--out", str(out), "--json"]
    answer = CliRunner().invoke(edgeprune, asked, standalone_mode=False)
    assert answer.exception is None, answer.exception
    found = json.loads(answer.stdout)
    rows = {row["row"]: row for row in found["rows"]}
    assert list(rows) == ["dense", "svit", "ats"]
    for row in rows.values():
        assert "mask_ap" in row["by_seed"] and set(row["by_seed"]) <= set(FIGURES) <= row.keys()
        assert 0 <= row["mask_ap"] <= 1 and not OF_LABELS & row.keys()
    assert rows["ats"]["note"] and rows["ats"]["latency_ms"] is None and rows["svit"]["latency_ms"]["p50"] > 0
    assert 0 < rows["svit"]["token_share"] < rows["dense"]["token_share"] == 1 and 0 < rows["ats"]["token_share"] < 1
    assert rows["svit"]["gmacs"] < rows["dense"]["gmacs"]
    assert [verdict["measure"] for verdict in found["verdicts"]] == list(rows["dense"]["by_seed"])
    assert read_card(out / "rows/svit/seed0/sparse.safetensors").model.task == "instance"

    heads = (out / "compare.csv").read_text().partition("\n")[0].split(",")
    assert set(FIGURES) <= set(heads) and not OF_LABELS & set(heads)
    assert (out / "compare-onnxruntime.png").stat().st_size > 5000
    said = CliRunner().invoke(edgeprune, ["compare", str(out / "compare.json")], standalone_mode=False).stdout
    assert "AP50" in said and "APs: of things of under 32x32 pixels" in said and "mIoU" not in said
    assert "  mask AP: at most 0.5 points under dense: " in said and "  box AP: at most" in said


# ------------------------------------------------------------------------------------------------ in PyTorch


def answers_of(model: Segmenter, frame_HW3: np.ndarray) -> Outputs:
    with torch.no_grad():
        raw = model(torch.from_numpy(frame_HW3)[None].permute(0, 3, 1, 2).float(), best_tokens(model)).raw
    return outputs_of(model.head, raw)


def write_what_it_finds(folder: Path, model: Segmenter, least: float) -> str:
    """A data set of four scenes whose things are those that a model finds, with a score of `least` or more; its path."""
    names, (height, width) = models.STREET.names, (models.HEIGHT, models.WIDTH)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / "images").mkdir()
    for number, frame_HW3 in enumerate(models.frames(4), 1):
        Image.fromarray(frame_HW3).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        fit, size = Preprocess(height, width), (height, width)
        for thing in read_things(answers_of(model, frame_HW3), names, fit, size, least):
            runs = {"size": [height, width], "counts": encode_runs(thing.mask_HW)}
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": thing.class_id}
            annotations.append(ids | {"segmentation": runs, "iscrowd": 0})
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "things.json").write_text(json.dumps(content))
    split = {"images": "images", "labels": "things.json", "format": "coco"}
    about = {"name": "found", "path": ".", "train": split, "val": split, "names": names, "things": names}
    (folder / "found.yaml").write_text(json.dumps(about))
    return str(folder / "found.yaml")


def test_a_method_without_graphs_is_scored_by_average_precision(tmp_path: Path) -> None:
    """What a model is sure of is there, and no more: its mask AP is 1, and that of another model of its kind is not."""
    model, other = (instances.model(instances.card("ats", depth=3, stem="conv"), seed) for seed in (0, 1))
    data = write_what_it_finds(tmp_path, model, least=0.2)
    plan = Plan.model_validate(
        {"name": "p", "recipe": "r", "dense": "d", "score": {"data": data}, "rows": {"dense": {}, "ats": {}}}
    )
    found = score_in_torch(plan, model)["fp32"]
    assert (found.mask_ap, found.mask_ap50) == (pytest.approx(1), pytest.approx(1))
    assert found.box_ap is not None and 0 <= found.box_ap < 1  # the head says boxes beside masks
    assert 0 < found.token_share < 1
    assert (found.miou, found.boundary_f, found.small_things_miou) == (None, None, None)
    assert (found.buckets, found.gmacs) == ({}, None)
    of_other = score_in_torch(plan, other)["fp32"].mask_ap
    assert of_other is not None and of_other < 0.9

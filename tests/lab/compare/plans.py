"""Plans of `compare` over the small street."""

from pathlib import Path
from typing import Any

import yaml

from edgeprune.base.reading import shipped
from edgeprune.model.checkpoint import save
from tests import models

SMALL_ROW = {"model": {"depth": 2, "height": 48, "width": 64}}
PEER: dict[str, Any] = {"peer": {"name": "dabnet"}}
SVIT: dict[str, Any] = {"policy": {"name": "svit", "options": {"first": 1, "keep": [0.5]}}}


def write_plan(folder: Path, **changes: Any) -> Path:
    """A plan over the small street, with its recipe and its dense checkpoint."""
    recipe = models.recipe(folder)
    phases = {name: phase.model_dump(mode="json") for name, phase in recipe.phases.items()}
    phases["reference"] = phases["dense"] | {"start": "dense"}
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(recipe.model_dump(mode="json") | {"phases": phases}, sort_keys=False)
    )
    dense = folder / "dense.safetensors"
    save(dense, models.card("dense", depth=3, stem="conv"), models.model(models.card("dense", 3, "conv")).state_dict())
    data = next(iter(recipe.phases.values())).data[0].data
    content = {
        "name": "tiny",
        "recipe": str(folder / "recipe.yaml"),
        "dense": str(dense),
        "score": {"data": data, "split": "val"},
        "target": str(folder / "target.yaml"),
        "rounds": 1,
        "rows": {"dense": {}, "svit": SVIT, "small": SMALL_ROW},
    }
    target = yaml.safe_load((shipped("targets") / "onnx-cpu.yaml").read_text())
    target["buckets"] = {"count": 3, "multiple": 4}
    (folder / "target.yaml").write_text(yaml.safe_dump(target))
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path

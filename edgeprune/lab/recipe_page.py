"""`docs/recipe.md` and `docs/recipe.schema.json`: every key of a recipe, made from what reads it.

    python -m edgeprune.lab.recipe_page docs

An editor that speaks YAML's language server checks a recipe against the schema as it is written; the page says how.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgeprune.base.files import write_atomic
from edgeprune.data.selection import CalibrationFrames
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import POLICIES
from edgeprune.train.recipe import AugmentSpec, AuxiliarySpec, Mix, OhemSpec, Phase, Recipe, Validation

PAGE, SCHEMA = "recipe.md", "recipe.schema.json"
SECTIONS: dict[str, tuple[type[BaseModel], str]] = {
    "A recipe": (Recipe, "The keys at the top."),
    "`model`": (ModelSpec, "The network; a checkpoint carries these in its header."),
    "`policy`": (PolicySpec, "The token policy; its options are below, by policy."),
    "`phases.NAME`": (Phase, "One phase. They run in the order in which they stand."),
    "`phases.NAME.data`": (Mix, "A list: each batch is drawn from all of them by their shares."),
    "`phases.NAME.augment`": (AugmentSpec, "What happens to a frame before a step sees it."),
    "`phases.NAME.ohem`": (OhemSpec, "Online hard example mining; `ohem: {}` takes the defaults."),
    "`phases.NAME.auxiliary`": (
        AuxiliarySpec,
        "Heads between blocks: `auxiliary: {blocks: [8]}`. No checkpoint has them.",
    ),
    "`validation`": (Validation, "What is scored while training, and never what is reported."),
    "`calibration`": (CalibrationFrames, "What thresholds, occupancy and INT8 ranges are measured on."),
}
HEAD = """# Every key of a recipe

Made from the schema that reads them: `python -m edgeprune.lab.recipe_page docs`. An unknown key is refused with the
nearest one. The schema itself is [recipe.schema.json](recipe.schema.json); an editor with YAML's language server checks a
recipe by it:

```yaml
# yaml-language-server: $schema=docs/recipe.schema.json
```

`--set KEY.KEY=VALUE` sets any of them on the command line: `--set phases.sparse.lr=2e-4`.
"""


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for title, (model, about) in SECTIONS.items():
        parts.append(f"## {title}\n\n{about}\n\n{table(model.model_json_schema())}\n")
    parts.append("## `policy.options`, by policy\n\nSources and formulas: [methods.md](methods.md).\n")
    for name, (options, _) in POLICIES.items():
        schema = options.model_json_schema()
        if schema.get("properties"):
            parts.append(f"### `{name}`\n\n{table(schema)}\n")
    return "\n".join(parts)


def schema_text() -> str:
    """The JSON schema of a recipe. What a recipe leaves out may be that of the one it extends, so that little is required; a
    list is taken whole."""
    schema = Recipe.model_json_schema() | {"required": ["name"]}
    for name, each in schema["$defs"].items():
        if name != Mix.__name__:
            each.pop("required", None)
    return json.dumps(schema, indent=1) + "\n"


def undescribed() -> list[str]:
    """Keys that nothing is said of: the page would have a hole."""
    models = {title: model for title, (model, _) in SECTIONS.items()}
    return undescribed_in(models | {f"`{name}`": options for name, (options, _) in POLICIES.items()})


def undescribed_in(models: Mapping[str, type[BaseModel]]) -> list[str]:
    """Keys of schemas, by the title of their section, that nothing is said of."""
    return [
        f"{title} {key}"
        for title, model in models.items()
        for key, entry in model.model_json_schema().get("properties", {}).items()
        if not entry.get("description")
    ]


def table(schema: Mapping[str, Any]) -> str:
    """The keys of a schema, as a table in Markdown."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, entry in schema.get("properties", {}).items():
        needed = key in schema.get("required", [])
        default = "needed" if needed else f"`{json.dumps(entry.get('default'))}`"
        said = entry.get("description", "").replace("|", "\\|")
        lines.append(f"| `{key}` | {_value(entry)} | {_short(default)} | {said} |")
    return "\n".join(lines)


def _short(default: str) -> str:
    return "below" if len(default) > 40 else default


def _value(entry: Mapping[str, Any]) -> str:
    """What may stand there: choices, or a type with its bounds."""
    return " or ".join(dict.fromkeys(_kinds(entry)))


def _kinds(entry: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in entry:
        for each in entry["anyOf"]:
            yield from _kinds(each)
    elif "enum" in entry or "const" in entry:
        yield ", ".join(f"`{choice}`" for choice in entry.get("enum", [entry.get("const")]))
    elif "$ref" in entry or "allOf" in entry:
        yield "mapping"
    else:
        names = {"integer": "whole number", "null": "null", "array": "list", "object": "mapping", "string": "text"}
        kind = names.get(entry.get("type", ""), entry.get("type", "any"))
        yield f"{kind}{_bounds(entry)}"


def _bounds(entry: Mapping[str, Any]) -> str:
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
    }
    found = [f"{sign} {entry[key]:g}" for key, sign in signs.items() if key in entry]
    return f" {', '.join(found)}" if found else ""


def main() -> None:
    """Writes both files into the folder that was named."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, text in ((PAGE, page()), (SCHEMA, schema_text())):
        with write_atomic(folder / name, "documentation") as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""`docs/recipe.md` and the schema beside it say every key that there is."""

import json
from pathlib import Path

import pytest

from edgeprune.lab.recipe_page import PAGE, SCHEMA, page, schema_text, undescribed

DOCS = Path(__file__).parents[2] / "docs"


def test_every_key_has_a_meaning() -> None:
    assert undescribed() == []


@pytest.mark.parametrize(("name", "text"), [(PAGE, page()), (SCHEMA, schema_text())])
def test_the_page_is_of_these_keys(name: str, text: str) -> None:
    assert (DOCS / name).read_text() == text, "type: python -m edgeprune.lab.recipe_page docs"


def test_a_key_is_told_with_its_bounds_and_its_default() -> None:
    lines = page().splitlines()
    assert any(line.startswith("| `batch` | whole number ≥ 1, ≤ 4096 | `8` | ") for line in lines)
    assert any(
        line.startswith("| `kind` | `dense`, `policy`, `sparse`, `qat`, `dense-qat` | needed | ") for line in lines
    )
    assert any(line.startswith("| `teacher` | text or list or null | `null` | ") for line in lines)


def test_a_recipe_that_extends_another_is_one_by_the_schema() -> None:
    schema = json.loads(schema_text())
    assert schema["required"] == ["name"] and "extends" in schema["properties"]
    assert "required" not in schema["$defs"]["Phase"] and schema["$defs"]["Mix"]["required"] == ["data"]

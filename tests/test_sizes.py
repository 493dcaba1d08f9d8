"""Functions fit a screen and files a few: what ruff has no rule for. Arguments, branches and statements are ruff's."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "edgeprune"
FUNCTION_LINES, FILE_LINES = 60, 300  # a function's docstring included
# Drawings of the street's renderer, longer for a reason. Files have no exception.
LONGER = {
    "street/facades.py:_buildings": "tiles in the order of their random numbers, on which every scene of a seed depends",
    "street/signs.py:furniture": "a list in drawing calls: one shape after the other, nothing shared between them",
    "street/surfacing.py:_mark": "markings in the order of their random numbers, on which every scene of a seed depends",
    "street/vehicles.py:surface": "the faces of one body: all of them read its profile, and each is drawn once",
}


def functions() -> Iterator[tuple[str, int]]:
    """Every function of the package, as `file:name`, and its lines."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_functions_fit_a_screen() -> None:
    """An exception that is no longer one fails too."""
    assert {name for name, lines in functions() if lines > FUNCTION_LINES} == set(LONGER)


def test_files_are_of_a_few_screens() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {str(path.relative_to(PACKAGE)): count for path, count in lines.items() if count > FILE_LINES}

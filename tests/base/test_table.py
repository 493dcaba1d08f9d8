"""Tables, CSV and JSON."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.table import INLINE, OPTIONAL, optional_where, plain, render_table, write_csv, write_json

ROWS: list[dict[str, Any]] = [
    {"bucket": "dense", "latency_ms": {"p50": 310.25, "p95": 340.0}, "miou": 0.624},
    {"bucket": "b40", "latency_ms": {"p50": 98.1, "p95": None}, "miou": None},
]


@dataclass(frozen=True)
class Inner:
    p50: float


@dataclass(frozen=True)
class Outer:
    latency_ms: Inner
    figures: dict[str, float | None] = field(default_factory=dict, metadata=INLINE)
    spread: tuple[float, float] = (1.0, 2.0)
    unknown: float | None = None
    not_asked_for: float | None = field(default=None, metadata=OPTIONAL)


def test_a_dataclass_is_json_table_and_csv_by_the_names_of_its_fields(tmp_path: Path) -> None:
    row = Outer(Inner(3.0))
    assert plain(row) == {"latency_ms": {"p50": 3.0}, "spread": [1.0, 2.0], "unknown": None}
    assert plain(Outer(Inner(3.0), not_asked_for=0.0))["not_asked_for"] == 0.0
    scored = plain(Outer(Inner(3.0), {"miou": 0.5, "boundary_f": None}))
    assert list(scored.items())[:4] == [
        ("latency_ms", {"p50": 3.0}),
        ("miou", 0.5),
        ("boundary_f", None),
        ("spread", [1.0, 2.0]),
    ]
    columns = {"latency_ms.p50": ("ms", ".1f"), "unknown": ("u", ".1f"), "elsewhere": ("e", "")}
    assert render_table([row], columns).splitlines()[-1].split() == ["3.0", "-", "-"]
    write_csv(tmp_path / "rows.csv", [row])
    assert (tmp_path / "rows.csv").read_text() == 'latency_ms.p50,spread,unknown\n3.0,"[1.0, 2.0]",\n'


@dataclass(frozen=True)
class OfTwoKinds:
    kind: str
    area: float | None = field(default=None, metadata=optional_where(lambda row: row.kind == "line"))


def test_a_field_is_left_out_of_the_rows_that_it_is_nothing_to() -> None:
    assert [plain(OfTwoKinds(*row)) for row in (("line",), ("disk",), ("disk", 0.0), ("line", 2.0))] == [
        {"kind": "line"},
        {"kind": "disk", "area": None},
        {"kind": "disk", "area": 0.0},
        {"kind": "line", "area": 2.0},
    ]


def test_table_is_aligned() -> None:
    table = render_table(
        ROWS,
        {
            "bucket": ("bucket", ""),
            "latency_ms.p50": ("ms", ".1f"),
            "latency_ms.p95": ("p95", ".0f"),
            "miou": ("mIoU", ".3f"),
        },
    )
    assert table.split("\n") == [
        "bucket     ms  p95   mIoU",
        "------  -----  ---  -----",
        "dense   310.2  340  0.624",
        "b40      98.1    -      -",
    ]


def test_table_of_no_rows_is_its_header() -> None:
    assert render_table([], {"a": ("name", ""), "b": ("ms", ".1f")}).startswith("name  ms\n----  --")


def test_a_cell_is_not_as_python_prints_it() -> None:
    rows = [{"taken": True, "counts": [480, 416]}, {"taken": False, "counts": (1000,)}, {"taken": None, "counts": []}]
    table = render_table(rows, {"taken": ("taken", ""), "counts": ("counts", ",d")})
    assert table.splitlines()[2:] == ["yes    480, 416", "no     1,000", "-"]


def test_csv_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.csv"
    write_csv(path, [*ROWS, {"bucket": "b,1", "late": 1 / 3}])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "bucket": "dense",
        "latency_ms.p50": "310.25",
        "latency_ms.p95": "340.0",
        "miou": "0.624",
        "late": "",
    }
    assert rows[1]["miou"] == "" and rows[2]["bucket"] == "b,1"
    assert float(rows[2]["late"]) == 1 / 3
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]


def test_json_reads_back_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    write_json(path, {"rows": ROWS})
    assert json.loads(path.read_text()) == {"rows": ROWS}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "bad.json", float("nan"))
    with pytest.raises(TypeError):
        write_json(path, {"rows": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert json.loads(path.read_text()) == {"rows": ROWS}


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the table to"):
        write_csv(tmp_path / "file" / "rows.csv", ROWS)

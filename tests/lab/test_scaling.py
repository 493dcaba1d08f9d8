"""Growth with the input size: the rows of every size, and exponents from known times."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune.bundle import open_bundle
from edgeprune.lab.scaling import exponents, scaling
from edgeprune.runtime.meters import open_meter
from tests import bundles


def row(series: str, tokens: int, ms: float, mb: float) -> dict[str, Any]:
    latency = {"latency_ms": {"p50": ms}, "peak_mb": mb}
    return {"series": series, "precision": "fp32", "engine": "onnxruntime", "tokens": tokens} | latency


def test_exponents_are_of_the_two_largest_sizes() -> None:
    rows = [
        row("dense", 1024, 40, 100),
        row("dense", 256, 1, 100),
        row("dense", 4096, 640, 400),
        row("auto", 256, 1, 1),
    ]
    (found,) = exponents(rows)
    assert (found["series"], found["tokens"]) == ("dense", "1024 to 4096")
    assert found["latency"] == pytest.approx(2) and found["memory"] == pytest.approx(1)


def test_rows_of_every_size(tmp_path: Path) -> None:
    one = open_bundle(bundles.write_bundle(tmp_path / "one").folder)
    two = open_bundle(bundles.write_bundle(tmp_path / "two").folder)
    two = two.seen_with(tokens=2 * bundles.N)  # the same graphs, said to be of another size
    result = scaling([one, two], 1, open_meter("none"), threads=1, frames=2)
    json.dumps(result, allow_nan=False)
    series = ["dense", "stem+head", *(["bucket 1", "bucket 2", "full", "auto", "trunk"] * 2)]
    for bundle in (one, two):
        assert [row["series"] for row in result["rows"] if row["tokens"] == bundle.manifest.tokens] == series
    assert {row["tokens"] for row in result["exponents"]} == {f"{bundles.N} to {2 * bundles.N}"}

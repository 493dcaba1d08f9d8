"""Scaling with the input size: the rows of every size, exponents from known times, and their plot."""

import json
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.table import plain
from edgeprune.bundle import open_bundle
from edgeprune.lab.scaling import InputSize, ScalingRow, exponents, measure_scaling, refuse_one_size
from edgeprune.lab.scaling_plot import plot_scaling
from edgeprune.runtime.meters import open_meter
from tests import bundles
from tests.results import bench_row


def row(
    series: str, tokens: int, ms: float, mb: float, precision: str = "fp32", engine: str = "onnxruntime"
) -> ScalingRow:
    measured = bench_row("trunk+tail", series, precision, ms, engine, mb)
    return ScalingRow(**vars(InputSize(64, 64, tokens, series)), **vars(measured))


def test_exponents_are_of_the_two_largest_sizes() -> None:
    rows = [
        row("dense", 1024, 40, 100),
        row("dense", 256, 1, 100),
        row("dense", 4096, 640, 400),
        row("auto", 256, 1, 1),
    ]
    (found,) = exponents(rows)
    assert (found.series, found.tokens) == ("dense", "1024 to 4096")
    assert found.latency == pytest.approx(2) and found.memory == pytest.approx(1)


def test_rows_of_every_size(tmp_path: Path) -> None:
    one = open_bundle(bundles.write_bundle(tmp_path / "one").folder)
    two = open_bundle(bundles.write_bundle(tmp_path / "two").folder)
    two = two.seen_with(tokens=2 * bundles.N)  # the same graphs, said to be of another size
    result = measure_scaling([one, two], 1, open_meter("none"), threads=1, frames=2)
    keys = list(json.loads(json.dumps(plain(result), allow_nan=False))["rows"][0])
    assert keys[:6] == ["height", "width", "tokens", "series", "graph", "bucket"]
    series = ["dense", "stem+head", *(["bucket 1", "bucket 2", "full", "auto", "trunk"] * 2)]
    for bundle in (one, two):
        assert [row.series for row in result.rows if row.tokens == bundle.manifest.tokens] == series
    assert {each.tokens for each in result.exponents} == {f"{bundles.N} to {2 * bundles.N}"}


def test_one_size_twice_is_refused(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny")
    (tmp_path / "link").symlink_to(bundle.folder)
    refuse_one_size([bundle])
    with pytest.raises(InputError, match=f"tiny and .*link both take frames of {bundles.H}x{bundles.W}; give one"):
        refuse_one_size([bundle, open_bundle(tmp_path / "link")])


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rows = [
        row(series, tokens, tokens / 10, 100.0, precision, engine)
        for engine in ("onnxruntime", "openvino")
        for series, precision in (("dense", "fp32"), ("full", "int8"), ("bucket 2", "int8"))
        for tokens in (1024, 256)
    ]
    plot_scaling(rows, tmp_path / "scaling.svg")
    text = (tmp_path / "scaling.svg").read_text()
    for label in ("dense fp32", "full int8", "openvino", "tokens of the full grid"):
        assert f"<!-- {label} -->" in text
    assert "<!-- bucket 2 int8 -->" not in text  # lies between the first and the full one
    with pytest.raises(InputError, match="no size was measured"):
        plot_scaling([], tmp_path / "none.png")

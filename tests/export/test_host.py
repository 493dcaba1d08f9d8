"""A target that leaves the engine open: the fastest of this machine that answers rightly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.statistics import Extremes
from edgeprune.bundle import open_bundle
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.export import host
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.onnxruntime import OnnxRuntime
from tests.export.conftest import small
from tests.results import bench_result, bench_row


def test_a_target_that_leaves_the_engine_open_gets_the_fastest_that_answers_rightly(
    inputs: BuildInputs, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """One engine answers wrongly and would be fastest, one is not installed; of the other two the faster is taken."""
    exported()

    class Wrong(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            session = super().open(*args, **kwargs)
            finish = session.finish
            monkeypatch.setattr(session, "finish", lambda bucket: {"labels": finish(bucket)["labels"] + 1})
            return session

    class Missing(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            raise InputError("this engine needs a library; pip install it")

    for name, engine in {"slow": OnnxRuntime(), "quick": OnnxRuntime(), "wrong": Wrong(), "missing": Missing()}.items():
        monkeypatch.setitem(ENGINES, name, engine)
    times = {"slow": 9.0, "quick": 5.0}

    def fake_bench(*_: Any, graphs: GraphSelection, engines: list[str], **__: Any) -> Any:
        assert engines == list(times)  # neither the wrong nor the missing one is worth timing
        (precision,) = graphs.precisions or ()
        rows = [bench_row("trunk+tail", "auto", precision, times[name], name) for name in engines]
        return bench_result([replace(rows[0], speedup_spread=Extremes(0.8, 1.2)), *rows[1:]])

    monkeypatch.setattr(host, "bench", fake_bench)
    target = small("onnx-cpu", 3).model_copy(update={"candidates": ["slow", "wrong", "missing", "quick"]})
    build(target, inputs, ["fp32"], tmp_path / "bundle")
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.target.engine == "quick"
    rows = {row.engine: row for row in manifest.engine_choice}
    assert [name for name, row in rows.items() if row.chosen] == ["quick"]
    assert rows["slow"].reason == "1.80x its time" and rows["quick"].agreement == 1
    assert "equal labels on the reference frames" in rows["wrong"].reason and rows["wrong"].p50_ms is None
    assert "pip install" in rows["missing"].reason
    line = "timings of slow scatter by 3.6 ms around 9.0: the engine may be chosen by chance; type the same `edgeprune build`"
    assert [each for each in said if "by chance" in each] == [f"{line} again when nothing else runs"]


def test_engines_of_this_machine_are_timed_for_real(
    inputs: BuildInputs, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported()
    target = small("onnx-cpu", 3).model_copy(update={"candidates": ["onnxruntime"]})
    build(target, inputs, ["fp32"], tmp_path / "bundle")
    manifest = open_bundle(tmp_path / "bundle").manifest
    (row,) = manifest.engine_choice
    assert row.chosen and row.p50_ms and row.reason == "the fastest"


def test_no_engine_at_all(inputs: BuildInputs, exported: Any, tmp_path: Path, monkeypatch: Any) -> None:
    exported()

    class Missing(OnnxRuntime):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            raise InputError("this engine needs a library; pip install it")

    monkeypatch.setitem(ENGINES, "missing", Missing())
    target = small("onnx-cpu", 3).model_copy(update={"candidates": ["missing"]})
    with pytest.raises(RunError, match="no engine can run the bundle: this engine needs a library"):
        build(target, inputs, ["fp32"], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

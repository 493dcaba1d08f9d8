"""What each verb prints, and the JSON that other tools read."""

import csv
import json
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.cli.measure import show_scores, write_bench
from edgeprune.cli.show import WIDTH
from edgeprune.evaluate.plot import drawn
from edgeprune.lab.scaling_plot import plot_scaling
from tests import bundles
from tests.cli.conftest import Type
from tests.results import bench_result, bench_row
from tests.runtime.engines.jetson import Jetson

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")


def test_run_json_is_the_one_object_on_stdout(edgeprune: Type, tiny: Path, frames: Path) -> None:
    said = edgeprune("run", "--bundle", tiny, "--camera", frames, "--record", "rows.csv", "--meter", "none", "--json")
    summary = json.loads(said.out)
    assert said.code == 0
    assert summary["frames"] == 6
    assert summary["dropped"] == 0
    assert summary["buckets"] == {"quarter": 4, "half": 2}
    assert set(summary["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"fps", "stages_ms", "tokens_mean", "out"} <= set(summary)
    assert summary["energy"]["mj_per_frame"] is None
    assert "rails" in summary["energy"]
    with Path(summary["record"]).open() as file:
        assert [row["bucket"] for row in csv.DictReader(file)] == ["quarter"] * 4 + ["half"] * 2


def test_run_prints_a_summary_and_writes_a_video(edgeprune: Type, tiny: Path, frames: Path) -> None:
    said = edgeprune("run", "--bundle", tiny, "--camera", frames, "--out", "overlay.mp4", "--meter", "none")
    assert said.code == 0
    assert "latency  p50" in said.out
    assert re.match(r"engine   onnxruntime [\d.]+ \(CPUExecutionProvider\), int8, 2 threads\n", said.out)
    assert "energy   no energy sensor" in said.out
    assert "wrote    overlay.mp4" in said.out
    assert Path("overlay.mp4").stat().st_size > 0


def test_run_stops_after_frames_and_holds_a_bucket(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune(
        "run", "--bundle", tiny, "--camera", "synthetic://street?seed=3", "--frames", 3, "--bucket", "half", "--json"
    )
    summary = json.loads(said.out)
    assert (summary["frames"], summary["buckets"]) == (3, {"half": 3})


def test_without_a_verb_the_verbs_are_listed(edgeprune: Type) -> None:
    said = edgeprune()
    assert (said.code, said.err) == (0, "")
    assert said == edgeprune("--help")


def test_inspect(edgeprune: Type, tiny: Path) -> None:
    assert json.loads(edgeprune("inspect", tiny, "--json").out)["precisions"] == ["fp32", "int8"]
    assert "quarter" in edgeprune("inspect", tiny).out


def test_eval_has_a_row_for_dense_each_bucket_and_auto(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    said = edgeprune("eval", "--bundle", tiny, "--data", data, "--json", "--out", "rows.csv")
    content = json.loads(said.out)
    assert content["frames"] == 4
    rows = {(row["bucket"], row["precision"]): row for row in content["rows"]}
    assert ("dense", "fp32") in rows
    for precision in ("fp32", "int8"):
        assert {(name, precision) for name in (*bundles.BUCKETS, "auto")} <= set(rows)
    # the labels of the data set are the dense graph's own answers
    assert rows["dense", "fp32"]["miou"] == 1.0
    assert rows["quarter", "int8"]["miou"] == 0.0
    figures = {"miou", "pixel_accuracy", "boundary_f", "small_things_miou", "per_class_iou"}
    assert {"bucket", "tokens", "precision", "engine"} | figures <= set(content["rows"][0])
    with Path("rows.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(content["rows"])


def test_eval_says_how_the_things_of_a_data_set_are_named(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    measured = ("eval", "--bundle", tiny, "--precision", "fp32", "--frames", 1, "--data", data)
    assert "names no classes that are things: `things: [car, person]` in its YAML" in edgeprune(*measured).out
    Path(data).write_text(Path(data).read_text() + f"things: [{bundles.NAMES[1]}]\n")
    assert "things: [" not in edgeprune(*measured).out


def test_a_region_is_shown_and_the_share_that_is_scored_is_said(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    rows = ["......", "######", "######", "###..."]
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("fp32",), region=rows).folder
    said = edgeprune("inspect", bundle).out
    assert "a region of the frame matters, 62.5% of its patches:\n" + "\n".join(rows) in said
    measured = ("--data", write_data_set(tmp_path), "--frames", 2)
    said = edgeprune("eval", "--bundle", bundle, *measured).out
    assert said.endswith("\nscored: 62.5% of the pixels, those inside the bundle's region\n")
    assert json.loads(edgeprune("eval", "--bundle", bundle, *measured, "--json").out)["scored_share"] == 0.625
    assert "scored:" not in edgeprune("eval", "--bundle", tiny, *measured).out


def test_buckets_for_budgets_are_named(edgeprune: Type, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("fp32",), for_budgets=("quarter",)).folder
    assert "\nfor budgets alone, a frame asks for none of them: quarter\n" in edgeprune("inspect", bundle).out
    rows = json.loads(
        edgeprune("eval", "--bundle", bundle, "--data", write_data_set(tmp_path), "--frames", 2, "--json").out
    )["rows"]
    assert {row["bucket"]: row["tokens"] for row in rows}.keys() >= {"quarter", "half", "full", "auto"}
    assert "quarter" not in next(row["buckets"] for row in rows if row["bucket"] == "auto")


def test_eval_of_two_engines(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    data = write_data_set(tmp_path)
    asked = ("--engine", "onnxruntime", "--engine", "openvino", "--precision", "fp32")
    content = json.loads(edgeprune("eval", "--bundle", tiny, "--data", data, *asked, "--json").out)
    assert set(content["engines"]) == {"onnxruntime", "openvino"}
    scores = {(row["engine"], row["bucket"]): row["miou"] for row in content["rows"]}
    assert len(scores) == len(content["rows"]) == 2 * (len(bundles.BUCKETS) + 2)
    assert scores["openvino", "auto"] == scores["onnxruntime", "auto"]


@pytest.mark.parametrize("verb", ["eval", "bench"])
def test_an_unknown_engine_is_refused_before_anything_runs(
    edgeprune: Type, tiny: Path, tmp_path: Path, verb: str
) -> None:
    data = write_data_set(tmp_path)
    said = edgeprune(verb, "--bundle", tiny, "--data", data, "--engine", "openvinno")
    assert said.code == 2 and "did you mean 'openvino'" in said.err


def test_roofline(edgeprune: Type, tiny: Path) -> None:
    pytest.importorskip("onnx", reason="the peaks are measured on graphs that onnx writes: pip install onnx")
    said = edgeprune("roofline", "--bundle", tiny, "--threads", 1, "--out", "roof")
    assert said.code == 0 and "int8 (trunk and tail)" in said.out and "GMAC/s" in said.out
    with Path("roof/roofline.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["graph"] for row in rows} == {"dense", "trunk", *bundles.BUCKETS}


def test_scaling_table_csv_and_plot(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("scaling", "--bundle", tiny, "--rounds", 1, "--frames", 2, "--threads", 1, "--out", "scaling")
    assert said.code == 0 and "bucket 1" in said.out and "peak MB" in said.out
    assert sorted(path.name for path in Path("scaling").iterdir()) == ["scaling.csv", "scaling.json", "scaling.png"]


def test_bench_table_csv_and_plot(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    said = edgeprune(
        "bench",
        "--bundle",
        tiny,
        "--rounds",
        2,
        "--frames",
        3,
        "--data",
        data,
        "--out",
        "bench",
        "--meter",
        "none",
        "--json",
    )
    content = json.loads(said.out)
    rows = {(row["bucket"], row["precision"]): row for row in content["rows"] if row["bucket"]}
    assert rows["dense", "fp32"]["speedup_vs_dense_fp32"] == 1.0
    assert rows["dense", "fp32"]["miou"] == 1.0
    assert rows["auto", "int8"]["latency_ms"]["p50"] > 0
    assert {"graph", "engine", "mj_per_frame"} <= set(content["rows"][0])
    assert content["threads"] == 2
    for name in ("bench.csv", "bench.json", "bench.png"):
        assert (Path("bench") / name).stat().st_size > 0


def test_targets(edgeprune: Type) -> None:
    rows = {row["name"]: row for row in json.loads(edgeprune("targets", "--json").out)["targets"]}
    jetsons = {"jetson-orin", "jetson-agx-orin", "jetson-orin-nx", "jetson-orin-nano", "jetson-thor"}
    assert set(rows) >= jetsons | {"host", "onnx-cpu", "openvino-cpu"}
    for name, row in rows.items():
        assert (row["build"], row["compile"]) == ("yes", "no" if name in jetsons else "-")
        assert (row["run"] == "yes") == (row["missing"] is None)
        assert ("JetPack" in row["requires"]) == (name in jetsons)
    assert rows["onnx-cpu"]["run"] == "yes" and "it comes with JetPack" in rows["jetson-thor"]["missing"]
    said = edgeprune("targets")
    assert said.out.count("not run here: this engine needs TensorRT") == 1
    assert "\njetson-thor: JetPack 7.1 or later" in said.out
    assert max(map(len, said.out.partition("not run here")[0].splitlines())) <= WIDTH


def test_targets_on_a_jetson(jetson: Jetson, edgeprune: Type) -> None:
    row = next(row for row in json.loads(edgeprune("targets", "--json").out)["targets"] if row["name"] == "jetson-orin")
    assert (row["compile"], row["run"], row["missing"]) == ("yes", "yes", None)


def test_a_table_of_many_classes_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ious = {f"a class of number {index}": index / 40 for index in range(30)}
    about = {
        "tokens": 9,
        "token_share": 1.0,
        "miou": 0.5,
        "pixel_accuracy": 0.5,
        "boundary_f": 0.5,
        "per_class_iou": ious,
    }
    show_scores(
        [{"bucket": "k480", "precision": "int8", "engine": name, **about} for name in ("onnxruntime", "openvino")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("bucket  precision  engine ") for line in lines) > 3
    shown = " ".join(lines).split()
    assert all(shown.count(f"{iou:.3f}") == 2 for iou in ious.values())


def test_lint_prints_the_histogram_of_ids(edgeprune: Type, tmp_path: Path) -> None:
    content = json.loads(edgeprune("data", "lint", write_data_set(tmp_path), "--split", "val", "--json").out)
    [val] = content["splits"]
    assert (val["split"], val["frames"], val["of"], val["problems"]) == ("val", 4, 4, [])
    assert sum(row["pixels"] for row in val["classes"]) == 4 * bundles.H * bundles.W


def test_lint_says_how_16_bit_images_are_read_and_what_binary_masks_need(edgeprune: Type, tmp_path: Path) -> None:
    path = write_data_set(tmp_path)
    Image.fromarray(np.full((bundles.H, bundles.W), 40_000, np.uint16)).save(tmp_path / "images" / "0.png")
    said = edgeprune("data", "lint", path, "--json")
    assert said.code == 0 and [row["frames"] for row in json.loads(said.out)["splits"]] == [4, 4]
    for index in range(4):
        Image.fromarray(np.eye(bundles.H, bundles.W, dtype=np.uint8) * 255).save(tmp_path / "labels" / f"{index}.png")
    said = edgeprune("data", "lint", path)
    assert said.code == 2 and "`ids: {0: class0, 255: CLASS}`" in said.err.splitlines()[-1]


def test_lint_reads_every_split_and_tells_every_problem(edgeprune: Type, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    said = edgeprune("data", "lint", data)
    assert said.code == 0 and said.err == "" and f"{data}: nothing wrong found in train, val\n" in said.out
    assert "4 of 4 val frames are all but equal to a train frame" in said.out  # both splits are the same frames here
    assert "train: 4 of 4 labels read\n" in said.out and "val: 4 of 4 labels read\n" in said.out
    Image.fromarray(np.full((3, 3), 77, np.uint8)).save(tmp_path / "labels" / "2.png")
    said = edgeprune("data", "lint", data, "--split", "val")
    [line] = said.err.splitlines()
    assert said.code == 2 and "2.png is 3x3" in line and "(1 of 2 problems; all stand on standard output)" in line
    assert "2.png has id 77" in said.out and "train" not in said.out
    said = edgeprune("data", "lint", data, "--split", "vla")
    assert said.code == 2 and "did you mean 'val'" in said.err and said.out == ""


def write_data_set(folder: Path) -> Path:
    """Four frames labelled by what the tiny bundle's dense graph says of them."""
    for name in ("images", "labels"):
        (folder / name).mkdir(exist_ok=True)
    for index in range(4):
        frame_HW3 = bundles.frame_with(3 + 4 * index, seed=index)
        label_HW = bundles.expected_dense(frame_HW3).repeat(bundles.CELL, 0).repeat(bundles.CELL, 1)
        Image.fromarray(frame_HW3).save(folder / "images" / f"{index}.png")
        Image.fromarray(label_HW.astype(np.uint8)).save(folder / "labels" / f"{index}.png")
    split = "{images: images, labels: labels}"
    path = folder / "tiny.yaml"
    path.write_text(
        f"name: tiny\npath: .\ntrain: {split}\nval: {split}\nnames: {json.dumps(bundles.NAMES)}\n"
        f"palette: {json.dumps(bundles.PALETTE)}\nignore_index: 255\n"
    )
    return path


def test_a_plot_for_each_engine(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    unknown = bench_row("single", "full", "fp32", 9.0)
    row = replace(unknown, figures={**unknown.figures, "miou": 0.5})
    rows = [row, replace(row, engine="openvino"), replace(unknown, engine="x")]
    paths = write_bench(bench_result(rows), tmp_path)
    assert [path.name for path in paths] == ["bench.csv", "bench.json", "bench.png", "bench-openvino.png"]
    assert all(path.stat().st_size > 0 for path in paths)
    columns, first, *_ = paths[0].read_text().splitlines()
    assert columns == (
        "graph,bucket,precision,engine,latency_ms.p50,latency_ms.p95,speedup_vs_dense_fp32,speedup_spread,mj_per_frame,"
        "peak_mb,miou,boundary_f,small_things_miou,speedup_min,speedup_max"
    )
    assert first == 'single,full,fp32,onnxruntime,9.0,9.0,1.0,"[1.0, 1.0]",,100,0.5,,,1.0,1.0'


def test_a_device_without_matplotlib_gets_its_figures_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They were measured for minutes; the picture is the least of them."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    unknown = bench_row("single", "full", "fp32", 9.0)
    paths = write_bench(bench_result([replace(unknown, figures={**unknown.figures, "miou": 0.5})]), tmp_path)
    assert [path.name for path in paths] == ["bench.csv", "bench.json"]
    assert "no bench.png: plots need matplotlib" in caplog.text
    with pytest.raises(InputError, match="no size was measured"):
        drawn(partial(plot_scaling, []), tmp_path / "scaling.png")


# ------------------------------------------------------------------------------------------------ lint of a graph


def test_lint_of_a_graph_says_why_and_what_to_do(edgeprune: Type, tmp_path: Path) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5000])]
    outputs = [helper.make_tensor_value_info("i", TensorProto.INT64, [4000])]
    constants = [numpy_helper.from_array(np.array([4000]), "k")]
    nodes = [helper.make_node("TopK", ["x", "k"], ["values", "i"], "best")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "large.onnx")
    said = edgeprune("lint", tmp_path / "large.onnx")
    assert said.code == 2 and "4 findings by the rules of jetson-orin" in said.err
    assert "topk-limit (TensorRT 10.3 to 11): TensorRT refuses K over 3840" in said.out
    assert "    best: TopK of 4000, over 3840\n    do: smaller buckets" in said.out
    assert "    opset 21, expected 17 to 19" in said.out
    assert "parser-takes-it" in said.out and "    best: TopK: 4000, at most 3840 [operators.md" in said.out
    content = json.loads(edgeprune("lint", tmp_path / "large.onnx", "--target", "onnx-cpu", "--json").out)
    assert [row["rule"] for row in content["findings"]] == ["topk-limit", "opset"]
    model.opset_import[0].version = 17
    onnx.save(model, tmp_path / "large.onnx")
    assert (
        "large.onnx: 1 finding by the rules of"
        in edgeprune("lint", tmp_path / "large.onnx", "--target", "onnx-cpu").err
    )


def test_lint_of_a_graph_without_findings(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("lint", tiny / "graphs" / "fp32-trunk.onnx", "--target", "onnx-cpu")
    assert said.code == 0 and said.out.endswith("rules of onnx-cpu, nothing found\n")


def test_lint_of_what_is_no_graph(edgeprune: Type, tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    for words, text in (
        ((tmp_path / "noise.onnx",), "is no whole ONNX graph"),
        ((tmp_path / "gone.onnx",), "gone.onnx is not there"),
        ((), "Missing argument 'GRAPH'"),
    ):
        said = edgeprune("lint", *words)
        assert said.code == 2 and text in said.err and len(said.err.splitlines()) == 1

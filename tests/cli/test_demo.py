"""`demo` on a bundle whose answers are known: what it says, what it keeps where it is stopped, what a second one takes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune import __version__
from edgeprune.base.files import sha256
from edgeprune.bundle import write_manifest
from edgeprune.bundle.target import BucketFamily, load_target
from edgeprune.cli import demo as module
from edgeprune.export import build as export
from edgeprune.export import inputs
from tests import bundles
from tests.cli.conftest import Type
from tests.cli.test_verbs import write_data_set
from tests.results import bench_result, bench_row

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
BUNDLE = Path("out/demo/bundle")


class Build:
    """In the place of `build`: counts its calls, or is stopped."""

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint
        self.calls = 0
        self.stopped = False

    def __call__(self, target: Any, of: Any, precisions: Any, out: Path) -> None:
        self.calls += 1
        if self.stopped:
            raise KeyboardInterrupt
        hashes = {"checkpoint_sha256": sha256(self.checkpoint), "target_sha256": target.sha256()}
        bundle = bundles.write_bundle(out).seen_with(provenance={**hashes, "edgeprune": __version__})
        write_manifest(out, bundle.manifest)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """The demo takes the tiny bundle, and is short."""
    checkpoint = tmp_path / "shipped.safetensors"
    checkpoint.write_bytes(b"weights")
    fake = Build(checkpoint)
    target = load_target("onnx-cpu")
    monkeypatch.setattr(export, "build", fake)
    monkeypatch.setattr(inputs, "find_inputs", lambda *_: None)
    monkeypatch.setattr(module, "default_checkpoint", lambda: checkpoint)
    monkeypatch.setattr(module, "load_target", lambda name: target)
    for name, value in {"FRAMES": 2, "ROUNDS": 1, "SCORED": 2, "DATA": str(write_data_set(tmp_path))}.items():
        monkeypatch.setattr(module, name, value)
    return fake


def test_a_second_demo_takes_the_finished_bundle(
    edgeprune: Type, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_and_measure", lambda *_: None)
    assert edgeprune("demo").code == 0
    said = edgeprune("demo")
    assert build.calls == 1 and f"{BUNDLE} is there, of this model, target and edgeprune: it is taken" in said.err
    build.checkpoint.write_bytes(b"other weights")
    assert f"{BUNDLE} is of another model, target or edgeprune; building it again" in edgeprune("demo").err
    monkeypatch.setattr(module, "__version__", "of another day")
    edgeprune("demo")
    assert build.calls == 3


def test_a_bundle_of_another_target_is_built_again(
    edgeprune: Type, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the target changed in what a device does not need of it."""
    monkeypatch.setattr(module, "run_and_measure", lambda *_: None)
    assert edgeprune("demo").code == 0
    other = load_target("onnx-cpu").model_copy(update={"buckets": BucketFamily(count=3)})
    monkeypatch.setattr(module, "load_target", lambda name: other)
    assert "is of another model, target or edgeprune" in edgeprune("demo").err and build.calls == 2


def test_a_demo_stopped_while_it_builds_says_that_nothing_is_kept(edgeprune: Type, build: Build) -> None:
    build.stopped = True
    said = edgeprune("demo")
    assert said.code == 130 and said.out == "" and not BUNDLE.exists()
    lost = f"{BUNDLE} was not finished: the same command builds it again, from its beginning"
    assert said.err.splitlines()[-3:] == [lost, "", "stopped"]


def test_a_demo_stopped_later_says_what_is_kept(edgeprune: Type, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes a signal for its end, and says so to nobody but `asked`."""
    monkeypatch.setattr(module, "run_camera", lambda *_, **__: None)
    monkeypatch.setattr(module, "asked", lambda: True)
    said = edgeprune("demo")
    kept = f"{BUNDLE} is whole and is kept: the same command goes on with it"
    assert said.code == 130 and said.err.splitlines()[-3:] == [kept, "", "stopped"]
    monkeypatch.setattr(module, "run_and_measure", lambda *_: None)
    assert edgeprune("demo").code == 0 and build.calls == 1


def test_a_demo_prints_one_object_and_says_on_standard_error_what_it_does(edgeprune: Type, build: Build) -> None:
    said = edgeprune("demo", "--json")
    content = json.loads(said.out)
    assert said.code == 0 and content["run"]["frames"] == 2 and content["bench"]["rounds"] == 1
    stages = [line for line in said.err.splitlines() if " of 3: " in line]
    assert [line.partition(":")[0] for line in stages] == ["1 of 3", "2 of 3", "3 of 3"]
    report = (BUNDLE.parent / "report.md").read_text()
    assert (
        "x dense FP32: the speed-up, its median over the rounds; min, max: of the speed-up over the rounds." in report
    )
    rows = {row["bucket"]: row for row in content["bench"]["rows"]}
    auto, dense = rows["auto"], rows["dense"]
    assert dense["miou"] == 1.0 > auto["miou"]  # the labels are the dense graph's own answers
    speed = f"auto: {auto['speedup_vs_dense_fp32']:.2f} times as fast as dense FP32"
    assert f"{speed}; mIoU {auto['miou']:.4f} against 1.0000 on 2 scenes." in report


def test_a_run_without_a_bundle_is_told_of_the_demos(edgeprune: Type, build: Build) -> None:
    said = edgeprune("run", "--frames", 1)
    assert said.code == 2 and "run `edgeprune build --target onnx-cpu`" in said.err
    bundles.write_bundle(BUNDLE)
    for verb in (("run",), ("bench",), ("eval", "--data", "street")):
        said = edgeprune(*verb)
        typed = f"--bundle {BUNDLE}"
        assert said.code == 2 and said.err.endswith(f", but the demo has built one; type {typed}\n")
        assert len(said.err.splitlines()) == 1
    assert edgeprune("run", "--frames", 1, *typed.split()).code == 0


def test_the_line_names_the_figure_of_the_task() -> None:
    rows = [replace(bench_row("graph", bucket, "int8", 1.0), figures={"mask_ap": 0.25}) for bucket in ("auto", "dense")]
    assert module.auto_against_dense(bench_result(rows)).endswith(
        "times as fast as dense FP32; mask AP 0.2500 against 0.2500 on 16 scenes"
    )

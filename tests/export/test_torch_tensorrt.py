"""The Torch-TensorRT builder, on fakes of it and of TensorRT: what its engines answer, and what is said where it can't run."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import MIXED, Bundle
from edgeprune.bundle.target import load_target
from edgeprune.export import torch_tensorrt
from edgeprune.export.graphs import export_dense, to_bytes
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.torch_tensorrt import Program, build_plans, check_builder, convert, programs, type_fp16
from edgeprune.model.checkpoint import save
from edgeprune.model.segmenter import as_image
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.precision_choice import Choice
from edgeprune.runtime.references import agreement_of
from tests import bundles, models
from tests.cli.conftest import Type, edgeprune
from tests.export import fake_torch_tensorrt
from tests.runtime.engines.jetson import Jetson, thor
from tests.shared import made_once

__all__ = ["edgeprune", "thor"]


@pytest.fixture
def library(thor: Jetson, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = fake_torch_tensorrt.make(thor.trt)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    monkeypatch.setattr(torch_tensorrt, "DEVICE", "cpu")
    yield module


@pytest.fixture
def built(
    library: Any, thor: Jetson, orin: Bundle, inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its plans of `orin` lie in the device's cache; they are built once."""

    def build(folder: Path) -> None:
        build_plans(inputs, orin)
        shutil.copytree(thor.cache, folder / "plans")

    made = made_once(tmp_path_factory, "torch-tensorrt", build)
    shutil.copytree(made / "plans", thor.cache, dirs_exist_ok=True)


def test_its_engines_answer_as_the_graphs_do_and_nothing_is_compiled(
    library: Any, thor: Jetson, orin: Bundle, inputs: BuildInputs, said: list[str]
) -> None:
    plans = build_plans(inputs, orin)
    graphs = orin.graphs("fp16")
    paths = [orin.path(path) for path in (graphs.trunk, *graphs.tails.values())]
    assert len(plans) == len(said) == len(paths) and all(plan.is_file() for plan in plans)
    engine = ENGINES["tensorrt"]
    engine.prepare(paths)
    assert not thor.trt.built and len(said) == len(paths)
    session = engine.open(orin, "fp16")
    shares = agreement_of(session, orin, "fp16")
    assert set(shares) == {bucket.name for bucket in orin.manifest.buckets}
    assert min(shares.values()) > 0.99
    with np.load(orin.path(orin.manifest.references)) as references:
        assert len({np.unique(labels).size for labels in references.values()}) > 1  # labels that could differ


def test_its_plans_fit_beside_those_of_the_onnx_graphs(built: None, orin: Bundle) -> None:
    """A trunk in INT8, compiled from ONNX, before tails of this builder: what `compile` may choose."""
    engine, graphs = ENGINES["tensorrt"], orin.graphs("int8")
    engine.prepare([orin.path(path) for path in (graphs.trunk, *graphs.tails.values())])
    tails = {bucket.name: "fp16" for bucket in orin.manifest.buckets}
    mixed = orin.seen_with(graphs=Choice("int8", tails, []).graphs(orin.manifest.graphs))
    shares = agreement_of(engine.open(mixed, MIXED), orin, "fp16")
    assert min(shares.values()) > 0.9


def test_a_state_of_another_type_is_refused(
    library: Any, thor: Jetson, orin: Bundle, inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = lambda self, frame_HW3: self.inner(frame_HW3)  # noqa: E731  # without the casts of its state
    monkeypatch.setattr(torch_tensorrt.TypedTrunk, "forward", forward)
    build_plans(inputs, orin)
    engine, graphs = ENGINES["tensorrt"], orin.graphs("fp16")
    engine.prepare([orin.path(graphs.trunk)], again=True)
    with pytest.raises(
        InputError, match=r"reads 'tokens' as float32 .*, the trunk gives float16 .*compile BUNDLE --again"
    ):
        engine.open(orin, "fp16")


def test_counts_are_those_of_the_graphs(built: None, orin: Bundle) -> None:
    ours, theirs = ENGINES["onnxruntime"].open(orin, "fp16"), ENGINES["tensorrt"].open(orin, "fp16")
    for frame_HW3 in models.frames(4):
        assert abs(ours.start(frame_HW3) - theirs.start(frame_HW3)) <= 1


def test_types_are_stated_in_the_program(inputs: BuildInputs, orin: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_tensorrt, "DEVICE", "cpu")
    model, _ = torch_tensorrt.load(inputs.checkpoint)
    assert inputs.calib is not None
    found = programs(model, orin, "fp16", inputs.calib.thresholds_of("fp16"))
    seen: dict[str, set[torch.dtype]] = {}
    for program in found.values():
        exported = torch.export.export(program.module.eval(), program.inputs, strict=False)
        for node in exported.graph.nodes:
            value = node.meta.get("val")
            value = value[0] if isinstance(value, tuple | list) else value
            if node.op == "call_function" and isinstance(value, torch.Tensor):
                seen.setdefault(str(node.target).removeprefix("aten.").split(".")[0], set()).add(value.dtype)
    assert seen["conv2d"] == seen["matmul"] == seen["softmax"] == {torch.float16}
    assert seen["layer_norm"] == {torch.float32}
    assert seen["linear"] == {torch.float16, torch.float32}  # the gates
    assert seen["topk"] == {torch.float32}
    *state, scores_N, _ = found["trunk"].module(*found["trunk"].inputs)
    assert {each.dtype for each in state} == {torch.float16} and scores_N.dtype == torch.float32  # as the ONNX graphs'


class Labels(torch.nn.Module):
    """frame (H, W, 3) -> labels (H, W)."""

    def __init__(self, dialect: str):
        super().__init__()
        self.dialect = dialect

    def forward(self, frame_HW3: torch.Tensor) -> torch.Tensor:
        return to_bytes(as_image(frame_HW3).argmax(dim=1)[0], self.dialect)


@pytest.mark.parametrize("version", ["2.12.0", "2.14.0"])
def test_the_programs_types_are_asked_for_where_that_has_a_name(
    version: str, thor: Jetson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", fake_torch_tensorrt.make(thor.trt, version))
    graph = bundles.write_bundle(tmp_path / "tiny").path("graphs/dense.onnx")
    frame_HW3 = torch.zeros(bundles.H, bundles.W, 3, dtype=torch.uint8)
    program = Program(Labels(torch_tensorrt.DIALECT), (frame_HW3,), ["frame"], ["labels"])
    assert convert(program, graph).is_file()
    found_HW = ENGINES["tensorrt"].open_graph(graph)(
        np.stack([frame_HW3[..., 0], frame_HW3[..., 1], frame_HW3[..., 2] + 1], -1)
    )["labels"]
    assert found_HW.dtype == np.uint8 and set(found_HW.flatten()) == {2}
    program = Program(Labels("tensorrt"), (frame_HW3,), ["frame"], ["labels"])
    with pytest.raises(RunError, match=r"no converter for aten.* to torch.uint8"):
        convert(program, graph)


def test_fp16_is_a_copy() -> None:
    model = models.model(models.card(stem="conv"))
    typed = type_fp16(model)
    assert typed.blocks[0].attn.qkv.weight.dtype == torch.float16  # type: ignore[union-attr]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert next(typed.policy.parameters()).dtype == torch.float32


def test_what_can_not_be_converted_is_said(library: Any, orin: Bundle, inputs: BuildInputs) -> None:
    library.refuses = NotImplementedError("Conversion of function aten.topk not currently supported!")
    with pytest.raises(
        RunError, match=r"can't convert .*trunk.* \(NotImplementedError: .*aten.topk.*edgeprune compile"
    ):
        build_plans(inputs, orin)


def test_torch_without_a_gpu_is_refused_before_anything_is_built(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_tensorrt, "DEVICE", "cuda")
    with pytest.raises(InputError, match="needs torch with CUDA and a GPU that it sees"):
        check_builder(load_target("jetson-thor"), ["fp16"])


def test_another_engines_target_and_int8_alone_are_refused(library: Any) -> None:
    with pytest.raises(InputError, match="target onnx-cpu runs onnxruntime; leave it out"):
        check_builder(load_target("onnx-cpu"), ["fp32"])
    with pytest.raises(InputError, match="builds fp16 and fp32, not int8"):
        check_builder(load_target("jetson-thor"), ["int8"])
    check_builder(load_target("jetson-thor"), ["int8", "fp16"])


def test_without_the_library_nothing_is_built(edgeprune: Type, tmp_path: Path) -> None:
    said = edgeprune("build", "--target", "jetson-thor", "--builder", "torch-tensorrt", "--out", tmp_path / "bundle")
    assert said.code == 2 and said.err.count("\n") == 1
    assert "needs Torch-TensorRT" in said.err and "edgeprune[tensorrt]" in said.err
    assert not (tmp_path / "bundle").exists()


def test_the_verb_writes_bundle_and_plans(library: Any, thor: Jetson, edgeprune: Type, tmp_path: Path) -> None:
    card = models.card("dense", depth=1, stem="conv")  # a single program
    save(tmp_path / "dense.safetensors", card, models.model(card).state_dict())
    asked = ["--target", "jetson-thor", "--builder", "torch-tensorrt", "--precision", "fp16", "--json"]
    said = edgeprune("build", *asked, "--checkpoint", "dense.safetensors", "--out", tmp_path / "bundle")
    assert said.code == 0, said.err
    content = json.loads(said.out)
    assert content["plans"] and all(Path(plan).parent == thor.cache for plan in content["plans"])
    about = json.loads(Path(content["plans"][0]).with_suffix(".json").read_text())
    assert about["builder"] == f"torch-tensorrt {library.__version__}" and "frame" in about["names"].values()


def test_a_policy_without_gates_is_one_program(orin: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_tensorrt, "DEVICE", "cpu")
    model = models.model(models.card("dense", stem="conv"))
    [program] = programs(model, orin, "fp32", []).values()
    frame_HW3 = models.frames(1)[0]
    with torch.no_grad():
        (label_HW,) = program.module(torch.from_numpy(frame_HW3))
    expected = ENGINES["onnxruntime"]
    path = Path(orin.folder).parent / "dense.onnx"
    path.write_bytes(export_dense(model, "tensorrt").SerializeToString())
    assert (label_HW.numpy() == expected.open_graph(path)(frame_HW3)["labels"]).mean() > 0.999

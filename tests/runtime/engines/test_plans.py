"""Compiling TensorRT engines into the cache, and every plan or device that is refused."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import plan_builder, plans
from edgeprune.runtime.engines.plan_builder import trtexec_command
from tests import bundles
from tests.runtime.engines.fake_cuda import FakeCudart
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs, prepared


def test_it_is_compiled_once_and_says_so(jetson: Jetson, bundle: Bundle, said: list[str]) -> None:
    ENGINE.prepare(graphs(bundle))
    assert said[0] == f"compiles 4 graphs for this device into {jetson.cache}; minutes each, once"
    assert [line.split(":")[0] for line in said[1:]] == [graph.stem for graph in graphs(bundle)]
    jetson.restart()
    said.clear()
    ENGINE.prepare(graphs(bundle))
    assert said == [] and jetson.trt.built == []


@pytest.mark.parametrize(("set_to", "mb"), [(None, 1024), ("256", 256)])
def test_networks_are_strongly_typed_and_memory_is_capped(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, set_to: str | None, mb: int
) -> None:
    if set_to:
        monkeypatch.setenv("EDGEPRUNE_WORKSPACE_MB", set_to)
    prepared(bundle)
    for network, config in jetson.trt.built:
        assert network.strongly_typed and config.flags == set()  # TF32 is on by default
        assert list(config.pools.values()) == [mb << 20]
    assert trtexec_command(graphs(bundle)[0]).endswith(f"--memPoolSize=workspace:{mb}M")


@pytest.mark.parametrize("set_to", ["0", "-5", "1GB"])
def test_a_cap_that_is_none(jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, set_to: str) -> None:
    monkeypatch.setenv("EDGEPRUNE_WORKSPACE_MB", set_to)
    with pytest.raises(InputError, match=f"EDGEPRUNE_WORKSPACE_MB is '{set_to}'; expected megabytes"):
        prepared(bundle)


def test_what_was_timed_is_kept_for_the_next_graph(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    [timing] = jetson.cache.glob("timing-*.cache")
    operators = [node.op_type for network, _ in jetson.trt.built for node in network.model.graph.node]
    assert timing.read_text().split("|") == [jetson.trt.__version__, *operators]


def test_times_of_another_version_are_taken_anew(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    [timing] = jetson.cache.glob("timing-*.cache")
    timing.write_text("9.9.9|Conv")
    ENGINE.prepare(graphs(bundle)[:1], again=True)
    operators = [node.op_type for node in jetson.trt.built[-1][0].model.graph.node]
    assert timing.read_text().split("|") == [jetson.trt.__version__, *operators]


def test_a_plan_says_what_it_was_made_for(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    about = [json.loads(path.read_text()) for path in sorted(jetson.cache.glob("*.json"))]
    assert len(about) == 4 and {each["tensorrt"] for each in about} == {jetson.trt.__version__}
    assert {each["architecture"] for each in about} == {"sm_87, 8 multiprocessors"}
    assert all(Path(each["graph"]) in graphs(bundle) for each in about)


def test_progress_is_said_while_it_builds(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(plan_builder, "SAY_EVERY_S", 0.0)
    said.clear()
    ENGINE.prepare(graphs(bundle)[:1])
    assert [line.rsplit(",")[0] for line in said[1:3]] == [
        f"{graphs(bundle)[0].stem}: Building Engine {step}/2" for step in (1, 2)
    ]


def test_a_change_of_power_mode_is_said(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(plans, "power_mode", lambda: "MAXN")
    prepared(bundle)
    said.clear()
    monkeypatch.setattr(plans, "power_mode", lambda: "15W")
    ENGINE.prepare(graphs(bundle))
    assert said == [
        f"{graphs(bundle)[0].stem} was compiled in power mode 'MAXN', now it is '15W'; "
        "`edgeprune compile BUNDLE --again` times anew"
    ]


def test_compiling_again_times_everything_anew(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """The timing cache is not specific to clocks: what is in it would not be timed at the new ones."""
    monkeypatch.setattr(plans, "power_mode", lambda: "15W")
    prepared(bundle)
    operators = [node.op_type for node in jetson.trt.built[0][0].model.graph.node]
    assert jetson.trt.handed[:2] == [[], operators]  # graphs of one build share what was timed
    monkeypatch.setattr(plans, "power_mode", lambda: "MAXN")
    said.clear()
    ENGINE.prepare(graphs(bundle), again=True)
    assert len(jetson.trt.built) == 8 and jetson.trt.handed[4:6] == [[], operators]
    assert {json.loads(path.read_text())["power_mode"] for path in jetson.cache.glob("*.json")} == {"MAXN"}
    assert not any("power mode" in line for line in said)
    ENGINE.prepare(graphs(bundle), again=True)
    assert len(jetson.trt.built) == 12 and jetson.trt.handed[8:10] == [[], operators]


def test_what_was_timed_in_another_power_mode_is_timed_anew(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a process that goes on, and of a graph that no plan is there of."""
    for mode, graph in zip(("15W", "MAXN", "15W"), graphs(bundle), strict=False):
        monkeypatch.setattr(plans, "power_mode", lambda mode=mode: mode)
        ENGINE.prepare([graph])
    operators = [node.op_type for node in jetson.trt.built[0][0].model.graph.node]
    assert jetson.trt.handed == [[], [], operators]


def test_plans_of_another_build_are_compiled_again(jetson: Jetson, bundle: Bundle) -> None:
    """As those that were built with TF32, before it was cleared."""
    prepared(bundle)
    for path in jetson.cache.glob("*.json"):
        about = json.loads(path.read_text())
        assert about.pop("tf32") == "off"
        path.write_text(json.dumps(about))
    with pytest.raises(InputError, match="was compiled for tf32 None, here it is off; compile it with"):
        ENGINE.open(bundle, "fp32")
    assert prepared(bundle).start(bundles.frame_with(3)) == 3


def save_apart(path: Path, location: str) -> Path:
    """A graph whose constants lie in a file of that name beside it."""
    constant = onnx.numpy_helper.from_array(np.ones(4, np.float32), "c")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "c"], ["y"])], "g", [x], [y], [constant])
    model = onnx.helper.make_model(graph, doc_string="not what is named here: other.weights")
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


@pytest.mark.parametrize("location", ["fp32.weights", "constants of é.data"])
def test_weights_beside_the_graph_count(jetson: Jetson, tmp_path: Path, location: str) -> None:
    """The same graph with other weights is another plan, whatever the file is called."""
    graph = save_apart(tmp_path / "graph.onnx", location)
    before = plans.graph_hash(graph)
    (tmp_path / location).write_bytes(b"other weights...")
    assert plans.graph_hash(graph) != before
    (tmp_path / location).unlink()
    with pytest.raises(InputError, match=rf"the constants of .*graph.onnx, .*/{location} is not there; check the path"):
        plans.graph_hash(graph)


def test_trtexecs_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRUNE_WORKSPACE_MB", "512")
    assert trtexec_command(Path("b/int8-tail-k352.onnx")) == (
        "trtexec --onnx=b/int8-tail-k352.onnx --saveEngine=int8-tail-k352.plan --stronglyTyped --noTF32 "
        "--memPoolSize=workspace:512M"
    )
    words = shlex.split(trtexec_command(Path("my bundles/$(id);x/it's.onnx")))
    assert words[1:3] == ["--onnx=my bundles/$(id);x/it's.onnx", "--saveEngine=it's.plan"] and len(words) == 6


# ------------------------------------------------------------------------------------------------ refused


def test_a_graph_that_is_not_compiled_is_refused(jetson: Jetson, bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match=r"is not compiled for this device; compile it with `edgeprune compile BUNDLE`"
    ):
        ENGINE.open(bundle, "fp32")


def test_plans_of_another_device_or_version_are_refused_and_compiled_again(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    ours = jetson.trt.__version__
    jetson.restart("10.9.0")
    with pytest.raises(
        InputError, match=rf"compiled for tensorrt {ours}, here it is 10.9.0; compile it with `edgeprune compile"
    ):
        ENGINE.open(bundle, "fp32")
    assert prepared(bundle).start(bundles.frame_with(3)) == 3
    other = FakeCudart()
    other.attributes[16] = 16
    jetson.restart("10.9.0", other)
    with pytest.raises(InputError, match="compiled for architecture sm_87, 8 multi.*, here it is sm_87, 16 multi"):
        ENGINE.open(bundle, "fp32")


def test_a_damaged_plan_is_refused(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    for path in jetson.cache.glob("*.plan"):
        os.truncate(path, 100)
    jetson.restart()
    with pytest.raises(InputError, match=r"is not what was compiled \(its hash differs\); compile it"):
        ENGINE.open(bundle, "fp32")


def test_a_plan_whose_version_was_edited_is_refused_by_tensorrt(jetson: Jetson, bundle: Bundle) -> None:
    prepared(bundle)
    jetson.restart("10.9.0")
    for path in jetson.cache.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tensorrt": "10.9.0"}))
    with pytest.raises(InputError, match=r"can't load .*plan \(Version tag does not match\); compile it .* --again`"):
        ENGINE.open(bundle, "fp32")


def test_a_graph_that_it_cannot_read_or_build(jetson: Jetson, bundle: Bundle, tmp_path: Path) -> None:
    model = onnx.load(graphs(bundle)[0])
    model.graph.node[0].op_type = "Reshapf"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.SerializeToString())
    failed = ENGINE.prepare([broken])
    assert isinstance(failed[broken], InputError)
    assert f"can't read {broken} (" in str(failed[broken]) and "Reshapf" in str(failed[broken])
    jetson.trt.refuses = "Error Code 10: Could not find any implementation for node {ForeignNode[x]}."
    failed = ENGINE.prepare(graphs(bundle))
    assert list(failed) == graphs(bundle) and all(isinstance(error, RunError) for error in failed.values())
    assert not list(jetson.cache.glob("*.plan"))


def test_one_graph_that_fails_does_not_stop_the_others(jetson: Jetson, bundle: Bundle, said: list[str]) -> None:
    first, second, *others = graphs(bundle)
    jetson.trt.refuses_graph = {second.stem: "Error Code 10: no implementation for node {ForeignNode[y]}."}
    said.clear()
    failed = ENGINE.prepare(graphs(bundle))
    assert list(failed) == [second] and len(list(jetson.cache.glob("*.plan"))) == 3
    assert [line.split(":")[0] for line in said[1:]] == [graph.stem for graph in (first, second, *others)]
    assert "no implementation for node {ForeignNode[y]}. (2 of 4)" in said[2]
    assert ENGINE.compiled(second) is None and ENGINE.compiled(first)
    jetson.trt.refuses_graph = {}
    assert ENGINE.prepare(graphs(bundle)) == {} and "compiles 1 graphs" in said[5]


def test_weights_that_are_missing_are_said_before_anything_is_built(
    jetson: Jetson, bundle: Bundle, tmp_path: Path
) -> None:
    graph = save_apart(tmp_path / "graph.onnx", "fp32.weights")
    (tmp_path / "fp32.weights").unlink()
    with pytest.raises(InputError, match="fp32.weights is not there"):
        ENGINE.prepare([*graphs(bundle), graph])
    graph.write_bytes(b"not ONNX")
    with pytest.raises(InputError, match=r"graph .*graph.onnx is no whole ONNX graph"):
        ENGINE.prepare([*graphs(bundle), graph])
    assert jetson.trt.built == []


# ------------------------------------------------------------------------------------------------ why it failed


def test_the_reason_is_given_whoever_logged_first(jetson: Jetson, bundle: Bundle) -> None:
    """TensorRT keeps the first logger of a process: that of the runtime, which is made before any builder."""
    jetson.trt.refuses = "Error Code 10: Could not find any implementation for node {ForeignNode[x]}."
    [trunk, *_] = graphs(bundle)
    [error] = ENGINE.prepare([trunk]).values()
    assert str(error).endswith("fp32-trunk.onnx: " + jetson.trt.refuses)


def test_the_reason_is_that_of_this_failure(jetson: Jetson, bundle: Bundle) -> None:
    trunk, tail, *_ = graphs(bundle)
    jetson.trt.refuses = "the first reason"
    ENGINE.prepare([trunk])
    jetson.trt.refuses = "the second reason"
    [error] = ENGINE.prepare([tail]).values()
    assert "the second reason" in str(error) and "the first" not in str(error)


def test_a_library_that_cannot_start_is_one_line(jetson: Jetson, bundle: Bundle) -> None:
    jetson.trt.cannot_start = "CUDA initialization failure with error: 35"
    with pytest.raises(RunError, match=r"TensorRT can't start \(CUDA initialization failure with error: 35\)"):
        ENGINE.open(bundle, "fp32")


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_built(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "file"))
    jetson.restart()
    with pytest.raises(InputError, match="EDGEPRUNE_CACHE is .*file', which is no folder"):
        ENGINE.prepare(graphs(bundle))
    assert jetson.trt.built == []


def test_what_is_too_old_or_missing(jetson: Jetson, bundle: Bundle) -> None:
    jetson.restart("8.6.2")
    with pytest.raises(InputError, match=r"TensorRT 8.6.2 is too old; 10.3 or later is needed \(JetPack 6.1"):
        ENGINE.open(bundle, "fp32")
    jetson.restart("10.3.0", FakeCudart(version=11040))
    with pytest.raises(InputError, match="CUDA 11.4 is too old; 12.0 or later"):
        ENGINE.open(bundle, "fp32")
    jetson.restart("10.3.0", FakeCudart(devices=0))
    with pytest.raises(
        InputError, match=r"no GPU here \(no CUDA-capable device is detected\).*edgeprune build --target onnx-cpu"
    ):
        ENGINE.open(bundle, "fp32")


def test_without_the_library_it_says_what_to_take(bundle: Bundle) -> None:
    """A Jetson may install it, or do without; another machine has no use for it."""
    with pytest.raises(InputError) as refused:
        ENGINE.open(bundle, "fp32")
    assert str(refused.value) == (
        "this engine needs TensorRT, which cannot be imported (No module named 'tensorrt'); it comes with JetPack: `sudo apt "
        "install nvidia-jetpack` on a Jetson, in an environment that sees it; or take a bundle for this machine's CPU: "
        "`edgeprune build --target onnx-cpu`"
    )

"""One tail for several buckets: it says what their own tails say, and is compiled with a profile for each."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.bundle import Bundle
from edgeprune.engines import ENGINES
from edgeprune.engines.plans import read_profiles, trtexec_command
from edgeprune.engines.tensorrt import TensorRt
from edgeprune.errors import InputError, RunError
from edgeprune.evaluate.one_tail import ALL, measure_one_tail
from edgeprune.export.graphs import export_tail, export_trunk
from edgeprune.export.one_tail import able_buckets, check_one_tail, export_one_tail
from edgeprune.model.policy import Bucket
from edgeprune.policies import POLICIES
from tests import bundles, models
from tests.cli.conftest import Type, edgeprune
from tests.engines.jetson import Jetson, thor

__all__ = ["edgeprune", "thor"]
COUNTS = {"svit": [(8, 6, 4), (14, 10, 6), (24, 24, 24)], "cts-svit": [(12, 10, 8), (15, 12, 9), (24, 24, 24)]}


@pytest.mark.parametrize("name", COUNTS)
def test_it_says_what_each_buckets_own_tail_says(name: str) -> None:
    model = models.model(models.card(name, stem="conv"))
    buckets = [Bucket(f"b{index}", counts) for index, counts in enumerate(COUNTS[name])]
    one, profiles = export_one_tail(model, buckets, "tensorrt")
    assert list(profiles) == ["b0", "b1"]
    assert [[length] for length in model.policy.candidates(buckets[0].counts)] == list(profiles["b0"].values())
    trunk = export_trunk(model, [0.0] * len(model.policy.gated))
    tails = {bucket.name: export_tail(model, bucket, "tensorrt") for bucket in buckets}
    assert check_one_tail(one, profiles, trunk, tails, models.frames(3), 1.0) == 1.0
    with pytest.raises(RunError, match="gives .* of b0's labels, at least 100.00% expected"):
        check_one_tail(
            one, profiles, trunk, tails | {"b0": tails["full" if "full" in tails else "b2"]}, models.frames(3), 1.0
        )


def test_its_weights_are_there_once(orin: Bundle) -> None:
    model = onnx.load(orin.path(orin.manifest.one_tail["fp16"]))
    own = onnx.load(orin.path(orin.graphs("fp16").tails[orin.manifest.buckets[0].name]))
    sizes = [sum(len(tensor.raw_data) for tensor in each.graph.initializer) for each in (model, own)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_buckets_share_an_engine(thor: Jetson, orin: Bundle, precision: str) -> None:
    engine = ENGINES["tensorrt"]
    assert isinstance(engine, TensorRt)
    graphs, path = orin.graphs(precision), orin.path(orin.manifest.one_tail[precision])
    full = orin.manifest.buckets[-1].name
    engine.prepare([path, orin.path(graphs.trunk), orin.path(graphs.tails[full])], models.quiet)
    _, config = thor.trt.built[0]
    assert config.profiles == [
        {name: tuple(shape) for name, shape in shapes.items()} for shapes in read_profiles(path).values()
    ]
    own, shared = ENGINES["onnxruntime"].open(orin, precision), engine.open_one_tail(orin, precision)
    for frame_HW3 in models.frames(3):
        own.start(frame_HW3)
        shared.start(frame_HW3)
        for bucket in orin.manifest.buckets:
            assert np.mean(own.finish(bucket.name) == shared.finish(bucket.name)) > 0.995


def test_another_profile_is_another_plan(thor: Jetson, orin: Bundle, tmp_path: Path) -> None:
    graph = orin.path(orin.manifest.one_tail["fp16"])
    for file in graph.parent.glob("fp16-one-tail*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    engine, copy = ENGINES["tensorrt"], tmp_path / graph.name
    engine.prepare([graph], models.quiet)
    engine.prepare([copy], models.quiet)
    assert len(thor.trt.built) == 1
    profiles = copy.with_suffix(".profiles.json")
    profiles.write_text(profiles.read_text().replace("\n", " "))
    engine.prepare([copy], models.quiet)
    assert len(thor.trt.built) == 2


def test_damaged_profiles(thor: Jetson, orin: Bundle, tmp_path: Path) -> None:
    graph = tmp_path / "fp16-one-tail.onnx"
    graph.write_bytes(orin.path(orin.manifest.one_tail["fp16"]).read_bytes())
    graph.with_suffix(".profiles.json").write_text("{")
    with pytest.raises(InputError, match=r"fp16-one-tail.profiles.json is damaged"):
        read_profiles(graph)


def test_the_verb_measures_both(thor: Jetson, edgeprune: Type, orin: Bundle) -> None:
    engine = ENGINES["tensorrt"]
    assert isinstance(engine, TensorRt)
    rows = measure_one_tail(orin, engine, models.quiet)
    shared = list(read_profiles(orin.path(orin.manifest.one_tail["fp16"])))
    assert [row["bucket"] for row in rows] == [*shared, ALL] * 2
    for row in rows:
        if row["bucket"] == ALL:
            assert 0 < row["shared_mb"] < row["own_mb"]
        else:
            assert row["own_ms"] > 0 and row["shared_ms"] > 0 and row["agreement"] > 0.95
    said = edgeprune("compile", orin.folder, "--one-tail")
    assert said.code == 0 and "shared MB" in said.out
    said = edgeprune("compile", orin.folder, "--one-tail", "--print-trtexec")
    assert said.out.count("--profile=1") == 2


def test_trtexec_gets_the_shapes(orin: Bundle) -> None:
    graph = orin.path(orin.manifest.one_tail["fp16"])
    [first, *_] = read_profiles(graph).values()
    said = ",".join(f"{name}:{shape[0]}" for name, shape in first.items())
    assert f" --profile=0 --minShapes={said} --optShapes={said} --maxShapes={said}" in trtexec_command(graph)


def test_a_bundle_without_one(thor: Jetson, edgeprune: Type, tmp_path: Path) -> None:
    bundles.write_bundle(tmp_path / "tiny", engine="tensorrt", compiled_on_device=True)
    for options in ([], ["--print-trtexec"]):
        said = edgeprune("compile", tmp_path / "tiny", "--one-tail", *options)
        assert said.code == 2 and "has no shared tail; build it with `edgeprune build --one-tail`" in said.err


def test_other_engines_refuse_it(edgeprune: Type, cpu: Bundle) -> None:
    said = edgeprune("compile", cpu.folder, "--one-tail")
    assert said.code == 2 and "--one-tail is for TensorRT, this bundle runs onnxruntime" in said.err
    said = edgeprune("build", "--one-tail")
    assert said.code == 2 and "--one-tail is for TensorRT, target onnx-cpu runs onnxruntime" in said.err


def test_gates_that_keep_as_many_can_share() -> None:
    model = models.model(models.card("svit", stem="conv"))
    buckets = [Bucket("a", (8, 8, 4)), Bucket("b", (12, 12, 12)), Bucket("c", (23, 8, 4)), Bucket("full", (24, 24, 24))]
    assert [bucket.name for bucket in able_buckets(model, buckets)] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"dense", "ats"}))  # these have no tails
def test_every_policy_has_one_tail_or_says_why_not(name: str) -> None:
    model = models.model(models.card(name, stem="conv"))
    gates, tokens = len(model.policy.gated), models.N
    target = model.policy.feasible(model.policy.target_counts(tokens))
    more = model.policy.feasible([min(tokens - 4, count + 3) for count in target])
    buckets = [Bucket("a", target), Bucket("b", more), Bucket("full", (tokens,) * gates)]
    try:
        one, profiles = export_one_tail(model, buckets, "tensorrt")
    except InputError as error:
        assert str(error).startswith("--one-tail: ") and name not in COUNTS
        return
    trunk = export_trunk(model, [0.0] * gates)
    tails = {bucket.name: export_tail(model, bucket, "tensorrt") for bucket in buckets[:2]}
    assert check_one_tail(one, profiles, trunk, tails, models.frames(2), 0.999) >= 0.999


@pytest.mark.parametrize(
    ("name", "buckets", "words"),
    [
        ("step", [(12, 10), (24, 24)], "STEP has no form of dynamic counts"),
        ("svit", [(8, 6, 4), (24, 24, 24)], "1 of the 2 buckets of SViT could share a tail"),
        ("svit", [(24, 24, 24)], "0 of the 1 buckets"),
        ("cts-svit", [(9, 5, 4), (12, 8, 6), (24, 24, 24)], "1 of the 3 buckets"),  # one cell apart: a length of 1
    ],
)
def test_what_can_not_be_shared(name: str, buckets: list[tuple[int, ...]], words: str) -> None:
    model = models.model(models.card(name, stem="conv"))
    if name == "step":
        buckets = [
            model.policy.feasible(model.policy.target_counts(24)),
            model.policy.feasible([24] * len(model.policy.gated)),
        ]
    with pytest.raises(InputError, match=words):
        able_buckets(model, [Bucket(f"b{index}", counts) for index, counts in enumerate(buckets)])

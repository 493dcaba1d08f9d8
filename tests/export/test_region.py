"""A build for a region of the frame: graphs whose blocks see its tokens alone, and a manifest that says so."""

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle.schema import SCHEMA_OF_REGIONS, SCHEMA_OF_WHOLE_FRAMES
from edgeprune.bundle.target import load_target
from edgeprune.data.region import Region
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import export_family
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.lint import lint_graph
from edgeprune.export.manifest import describe_bundle
from edgeprune.export.parity import WatchedGraph, measure_parity
from edgeprune.export.simplify import kinds_of
from edgeprune.export.spec import BuildSpec, describe_build
from edgeprune.model.policy import Bucket
from edgeprune.quantize.calibrate import calibrate_thresholds
from tests import models
from tests.export.conftest import small

ORIN = load_target("jetson-orin")
ROWS = ["......", "..##..", "######", "######"]
CELLS = ["..##..", "..##..", "######", "######"]  # of 2x2 patches


def test_graphs_answer_as_pytorch_does_and_have_rows_of_the_region_alone() -> None:
    """Superpatches and gates: the shipped policy."""
    model = models.model(models.card("cts-svit", depth=3))
    model.restrict(Region(tuple(ROWS)))
    thresholds, occupancy_FG = calibrate_thresholds(model, models.images(4))
    counts = model.policy.schedule.round_up([10, 6])
    graphs = export_family(model, [Bucket("k10", counts)], thresholds, ORIN.dialect)
    row = measure_parity(model, [Bucket("k10", counts)], "fp32", graphs, models.frames(4), threads=1)[0]
    assert row.label_agreement > 0.9999 and row.max_abs < 0.05 and row.selection_agreement == 1
    assert kinds_of(graphs.trunk)["tokens"][1] == (16, 192) and kinds_of(graphs.trunk)["scores"][1] == (4,)
    attention = [
        kinds_of(graphs.tails["k10"])[node.input[0]][1]
        for node in graphs.tails["k10"].graph.node
        if node.op_type == "Softmax"
    ]
    assert [shape[-1] for shape in attention] == [counts[0], counts[0], *counts[1:]]
    assert all(lint_graph(name, to_fp16(proto), ORIN.lint) == [] for name, proto in graphs.named().items())
    watched = WatchedGraph(graphs.trunk, threads=1)
    for frame_HW3, shares_G in zip(models.frames(4), occupancy_FG, strict=True):
        assert int(np.asarray(watched.run({"frame": frame_HW3})["count"])) == round(shares_G[0] * 16)


def describe(inputs: BuildInputs, region: list[str] | None) -> BuildSpec:
    assert inputs.calib is not None
    calib = inputs.calib.model_copy(update={"region": region})
    return describe_build(small("onnx-cpu", 3), replace(inputs, calib=calib), ["fp32"])


def test_a_manifest_says_the_region_and_an_older_runtime_refuses_it(inputs: BuildInputs) -> None:
    spec = describe(inputs, CELLS)
    manifest = describe_bundle(spec, {}, {"dense": "dense.onnx", "stem_head": "stem-head.onnx"}, [], "references.npz")
    assert (manifest.schema_version, manifest.region) == (SCHEMA_OF_REGIONS, CELLS)
    assert (manifest.tokens, manifest.most_tokens) == (24, 16)
    last = manifest.buckets[-1]
    assert (last.name, last.first, last.token_layers) == ("full", 16, 3 * 16)
    assert spec.dense.inside is None  # the peer is dense on the whole frame
    whole = describe_bundle(describe(inputs, None), {}, {"dense": "d", "stem_head": "s"}, [], "r.npz")
    assert (whole.schema_version, whole.region) == (SCHEMA_OF_WHOLE_FRAMES, None)
    assert whole.buckets[-1].token_layers == 3 * 24


def test_a_region_of_another_grid_is_refused(inputs: BuildInputs) -> None:
    known = f"calibration of tiny on .*: its region has 2x3 patches, {inputs.checkpoint} has"
    with pytest.raises(
        InputError, match=f"{known} 4x6; run `edgeprune calibrate {inputs.checkpoint} --region MASK` again"
    ):
        describe(inputs, ["###", "###"])
    with pytest.raises(InputError, match="its region has 4x6 patches, .* has 2x3 at --size 32x48; leave --size out"):
        describe(replace(inputs, size=(32, 48)), CELLS)

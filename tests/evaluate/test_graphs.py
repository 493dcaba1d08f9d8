"""Every graph that is measured, asked for one frame."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.evaluate.graphs import ALL_GRAPHS, GraphSelection, open_graphs
from edgeprune.runtime.engines import ENGINES
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
ENGINE = ENGINES["onnxruntime"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("graphs") / "tiny")


def test_auto_takes_the_answer_of_the_bucket_it_chose(bundle: Bundle, tmp_path: Path) -> None:
    frame_HW3, theirs = bundles.frame_with(7), tmp_path / "theirs.onnx"
    theirs.write_bytes(bundle.path("graphs/dense.onnx").read_bytes())
    with open_graphs(bundle, ENGINE, GraphSelection(["int8"], [theirs])) as opened:
        answers = {(each.bucket, each.precision): each for each in opened.answers(frame_HW3)}
    assert list(answers) == [("dense", "fp32"), ("theirs", "fp32")] + [
        (bucket, "int8") for bucket in (*bundles.BUCKETS, "auto")
    ]
    assert answers["theirs", "fp32"].tokens == opened.all_tokens == bundles.DEPTH * bundles.N
    auto, chosen = answers["auto", "int8"], bundles.expected_bucket(frame_HW3)
    assert (auto.chosen, auto.tokens) == (chosen, answers[chosen, "int8"].tokens)
    assert np.array_equal(auto.outputs["labels"], bundles.expected_labels(frame_HW3, chosen))
    assert all(each.chosen is None for each in answers.values() if each is not auto)


def test_graphs_are_closed_at_the_end_of_the_block(bundle: Bundle) -> None:
    with open_graphs(bundle, ENGINE, ALL_GRAPHS) as opened:
        session = opened.of_precisions[0].session
    with pytest.raises(InputError, match="unknown bucket 'half'"):
        session.finish("half")

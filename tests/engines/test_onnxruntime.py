"""ONNX Runtime sessions on a bundle whose answers are known, and on bundles that are damaged."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.bundle import Bundle, open_bundle
from edgeprune.engines import ENGINES
from edgeprune.errors import InputError
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
ORT = ENGINES["onnxruntime"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("engines") / "tiny")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_counts_and_labels(bundle: Bundle, precision: str) -> None:
    session = ORT.open(bundle, precision)
    for bright in (0, 3, 6, 7, 24):
        frame_HW3 = bundles.frame_with(bright, seed=bright)
        assert session.start(frame_HW3) == bright
        for name in ("full", "quarter", "half", "quarter"):
            label_HW = session.finish(name)
            assert label_HW.dtype == np.uint8
            assert np.array_equal(label_HW, bundles.expected_labels(frame_HW3, name))
    session.close()


def test_labels_and_frames_of_earlier_calls_stay_as_they_were(bundle: Bundle) -> None:
    session, dense = ORT.open(bundle, "fp32"), ORT.open_graph(bundle.path("graphs/dense.onnx"))
    frame_HW3, other_HW3 = bundles.frame_with(4, seed=1), bundles.frame_with(20, seed=2)
    session.start(frame_HW3)
    label_HW, dense_HW = session.finish("half"), dense(frame_HW3)
    session.start(other_HW3)
    session.finish("half")
    dense(other_HW3)
    assert np.array_equal(label_HW, bundles.expected_labels(frame_HW3, "half"))
    assert np.array_equal(dense_HW, bundles.expected_dense(frame_HW3))


def test_dense_policy_has_one_bucket(tmp_path: Path) -> None:
    session = ORT.open(bundles.write_bundle(tmp_path / "tiny", gated=False), "fp32")
    frame_HW3 = bundles.frame_with(5)
    assert session.start(frame_HW3) == bundles.N
    assert np.array_equal(session.finish("full"), bundles.expected_dense(frame_HW3))
    with pytest.raises(InputError, match="choices: full"):
        session.finish("half")


def test_only_the_buckets_asked_for_are_opened(bundle: Bundle) -> None:
    session = ORT.open(bundle, "fp32", buckets=["half"])
    session.start(bundles.frame_with(2))
    session.finish("half")
    with pytest.raises(InputError, match=r"unknown bucket 'full'; choices: half$"):
        session.finish("full")


def test_unknown_names(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"unknown bucket 'haf'.*did you mean 'half'"):
        ORT.open(bundle, "fp32", buckets=["haf"])
    with pytest.raises(InputError, match="unknown precision 'int4'; choices: fp32, int8"):
        ORT.open(bundle, "int4")


def test_description_names_the_provider_that_ran(bundle: Bundle) -> None:
    description = ORT.open(bundle, "int8", threads=1).describe()
    assert description["provider"] == description["provider_asked"] == "CPUExecutionProvider"
    assert (description["engine"], description["precision"], description["threads"]) == ("onnxruntime", "int8", 1)
    assert description["version"][0].isdigit()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\x00" * 64, lambda data: b""])
def test_a_graph_that_cannot_be_read(bundle: Bundle, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    graph = tmp_path / "cut-off.onnx"
    graph.write_bytes(damage(bundle.path("graphs/dense.onnx").read_bytes()))
    with pytest.raises(InputError, match=r"can't read .*cut-off\.onnx .*build the bundle again"):
        ORT.open_graph(graph)
    with pytest.raises(InputError, match="not there"):
        ORT.open_graph(tmp_path / "gone.onnx")


@pytest.mark.parametrize("file", ["graphs/fp32-trunk.onnx", "graphs/int8-tail-half.onnx"])
def test_tampered_and_truncated_bundles_are_refused(tmp_path: Path, file: str) -> None:
    bundles.write_bundle(tmp_path / "tiny")
    path = tmp_path / "tiny" / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=f"{file} does not match its hash"):
        open_bundle(tmp_path / "tiny")
    path.unlink()
    with pytest.raises(InputError, match=f"lacks {file}"):
        open_bundle(tmp_path / "tiny")


def test_a_machine_without_onnxruntime(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        ORT.open(bundle, "fp32")

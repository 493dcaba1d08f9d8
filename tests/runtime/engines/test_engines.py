"""Every engine of this machine on a bundle whose answers are known, and on bundles that are damaged."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle, GraphSet, open_bundle
from edgeprune.runtime.engines import ENGINES, Engine, onnxruntime, openvino
from edgeprune.runtime.engines.onnxruntime import CUDA, TENSORRT
from tests import bundles

MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}  # engines that compute what the graph says
PROVIDERS = {"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}


@pytest.fixture(params=MODULES)
def name(request: pytest.FixtureRequest) -> str:
    module = MODULES[request.param]
    pytest.importorskip(module, reason=f"needs {request.param}: pip install {module}")
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Engine:
    return ENGINES[name]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_counts_and_labels(engine: Engine, bundle: Bundle, precision: str) -> None:
    session = engine.open(bundle, precision)
    bundles.check_answers(session)
    session.close()


def test_scores_are_a_copy_and_there_where_something_is_gated(engine: Engine, bundle: Bundle, tmp_path: Path) -> None:
    session = engine.open(bundle, "fp32")
    frame_HW3, other_HW3 = bundles.frame_with(4, seed=1), bundles.frame_with(20, seed=2)
    session.start(frame_HW3)
    scores_S = session.scores()
    session.start(other_HW3)
    session.finish("half")
    assert scores_S is not None
    np.testing.assert_allclose(scores_S, bundles.cells(frame_HW3).ravel(), rtol=1e-5)
    dense = engine.open(bundles.write_bundle(tmp_path / "dense", gated=False), "fp32")
    dense.start(frame_HW3)
    assert dense.scores() is None


def test_labels_and_frames_of_earlier_calls_stay_as_they_were(engine: Engine, bundle: Bundle) -> None:
    session, dense = engine.open(bundle, "fp32"), engine.open_graph(bundle.path("graphs/dense.onnx"))
    frame_HW3, other_HW3 = bundles.frame_with(4, seed=1), bundles.frame_with(20, seed=2)
    session.start(frame_HW3)
    label_HW, dense_HW = session.finish("half")["labels"], dense(frame_HW3)["labels"]
    session.start(other_HW3)
    session.finish("half")
    dense(other_HW3)
    assert np.array_equal(label_HW, bundles.expected_labels(frame_HW3, "half"))
    assert np.array_equal(dense_HW, bundles.expected_dense(frame_HW3))


def test_a_single_graph_takes_its_own_size_alone(engine: Engine, bundle: Bundle) -> None:
    dense = engine.open_graph(bundle.path("graphs/dense.onnx"))
    with pytest.raises(InputError, match=rf"dense.onnx takes frames of {bundles.H}x{bundles.W}, not {bundles.H}x1"):
        dense(bundles.frame_with(1)[:, :1])


def test_frames_that_can_only_be_read(engine: Engine, bundle: Bundle) -> None:
    """As an image library or a decoder may hand them out: read-only, and every second column of something wider."""
    frame_HW3 = bundles.frame_with(7, seed=3)
    session, dense = engine.open(bundle, "fp32"), engine.open_graph(bundle.path("graphs/dense.onnx"))
    wide_HW3 = np.repeat(frame_HW3, 2, axis=1)
    for given_HW3 in (frame_HW3, wide_HW3[:, ::2]):
        given_HW3.flags.writeable = False
        session.start(given_HW3)
        assert np.array_equal(session.finish("half")["labels"], bundles.expected_labels(frame_HW3, "half"))
        assert np.array_equal(dense(given_HW3)["labels"], bundles.expected_dense(frame_HW3))


def test_dense_policy_has_one_bucket(engine: Engine, tmp_path: Path) -> None:
    session = engine.open(bundles.write_bundle(tmp_path / "tiny", gated=False), "fp32")
    frame_HW3 = bundles.frame_with(5)
    assert session.start(frame_HW3) == bundles.N
    assert np.array_equal(session.finish("full")["labels"], bundles.expected_dense(frame_HW3))
    with pytest.raises(InputError, match="choices: full"):
        session.finish("half")


def test_a_trunk_that_takes_more_than_a_frame_is_refused(engine: Engine, bundle: Bundle) -> None:
    """A tail in its place reads tokens that nobody gives."""
    graphs = bundle.graphs("fp32")
    swapped = bundle.seen_with(graphs={"fp32": GraphSet(trunk=graphs.tails["half"], tails=graphs.tails)})
    with pytest.raises(InputError, match=r"does not turn a 'frame' \(H, W, 3\) into an answer: it has inputs .*tokens"):
        engine.open(swapped, "fp32")
    crossed = bundle.seen_with(graphs={"fp32": GraphSet(trunk=graphs.trunk, tails={"half": graphs.trunk})})
    with pytest.raises(InputError, match="'frame'; choices: .*tokens"):
        engine.open(crossed, "fp32", ["half"])


def test_only_the_buckets_asked_for_are_opened(engine: Engine, bundle: Bundle) -> None:
    session = engine.open(bundle, "fp32", buckets=["half"])
    session.start(bundles.frame_with(2))
    session.finish("half")
    with pytest.raises(InputError, match=r"unknown bucket 'full'; choices: half$"):
        session.finish("full")


def test_unknown_names(engine: Engine, bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"unknown bucket 'haf'.*did you mean 'half'"):
        engine.open(bundle, "fp32", buckets=["haf"])
    with pytest.raises(InputError, match="unknown precision 'int4'; choices: fp32, int8"):
        engine.open(bundle, "int4")


def test_description_names_the_provider_that_ran(name: str, engine: Engine, bundle: Bundle) -> None:
    description = engine.open(bundle, "int8", threads=1).describe()
    assert description["provider"] == description["provider_asked"] == PROVIDERS[name]
    assert (description["engine"], description["precision"], description["threads"]) == (name, "int8", 1)
    assert description["version"][0].isdigit()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\x00" * 64, lambda data: b""])
def test_a_graph_that_cannot_be_read(
    engine: Engine, bundle: Bundle, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    graph = tmp_path / "cut-off.onnx"
    graph.write_bytes(damage(bundle.path("graphs/dense.onnx").read_bytes()))
    with pytest.raises(InputError, match=r"can't read .*cut-off\.onnx .*build the bundle again"):
        engine.open_graph(graph)
    with pytest.raises(InputError, match="not there"):
        engine.open_graph(tmp_path / "gone.onnx")


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


def test_a_machine_without_the_library(
    name: str, engine: Engine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what `import` takes for "not there"
    with pytest.raises(InputError, match=f"pip install .*{name}"):
        engine.open(bundle, "fp32")


def test_bf16_is_refused_where_the_cpu_has_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    real = openvino.load_openvino()

    class Core(real.Core):  # type: ignore[misc, name-defined]
        def get_property(self, device: str, key: str) -> Any:
            return ["FP32", "INT8"] if key == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, key)

    monkeypatch.setattr(real, "Core", Core)
    with pytest.raises(InputError, match=r"does not compute in bf16 .*FP32, INT8.*use engine openvino"):
        ENGINES["openvino-bf16"].open(bundle, "fp32")
    assert ENGINES["openvino"].open(bundle, "fp32").describe()["inference_precision"]


def test_bf16_is_nearly_what_the_graph_says(bundle: Bundle) -> None:
    library = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    if "BF16" not in library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("needs a CPU with bf16")
    session = ENGINES["openvino-bf16"].open(bundle, "fp32")
    assert "bf" in session.describe()["inference_precision"]
    frame_HW3 = bundles.frame_with(6, seed=1)
    assert session.start(frame_HW3) == 6
    assert (session.finish("half")["labels"] == bundles.expected_labels(frame_HW3, "half")).mean() > 0.95


# ------------------------------------------------------------------------------------------------ ONNX Runtime's providers


@pytest.mark.parametrize(("name", "provider"), [("onnxruntime-cuda", CUDA), ("onnxruntime-tensorrt", TENSORRT)])
def test_a_provider_that_is_not_installed_is_refused(bundle: Bundle, name: str, provider: str) -> None:
    if provider in onnxruntime.load_onnxruntime().get_available_providers():
        pytest.skip(f"this ONNX Runtime has {provider}")
    with pytest.raises(
        InputError, match=rf"has no {provider} \(it has .*CPUExecutionProvider.*pip install onnxruntime-gpu"
    ):
        ENGINES[name].open(bundle, "fp32")
    missing = ENGINES[name].missing()
    assert missing is not None and provider in missing


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_fall_back_to_the_cpu_is_refused(bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu does where its CUDA does not fit: the session is made, on the CPU."""
    library = onnxruntime.load_onnxruntime()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")  # put back afterwards
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    real, asked = library.InferenceSession, []

    def on_the_cpu(model: Any, options: Any, providers: list[Any], **_: object) -> Any:
        asked.append(providers)
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(library, "get_available_providers", lambda: [TENSORRT, CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(library, "InferenceSession", on_the_cpu)
    with pytest.raises(
        InputError, match="ExecutionProvider did not start, onnxruntime .* fell back to CPUExecutionProvider"
    ):
        ENGINES[name].open(bundle, "fp32")
    assert [each for each, _ in asked[0]] == ([CUDA] if name.endswith("cuda") else [TENSORRT, CUDA])
    assert asked[0][-1] == (CUDA, {"use_tf32": "0"})
    assert name.endswith("cuda") or os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        ({"avx2", "avx512f"}, "1"),
        ({"avx2", "avx_vnni"}, None),
        ({"avx512f", "avx512_vnni", "amx_int8"}, None),
        (set(), None),
    ],
)
def test_int8_products_are_exact_on_every_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, flags: set[str], key: str | None
) -> None:
    """Without VNNI the sum of two is cut to 16 bits unless the key is set; with it the key takes the fast kernels away. A CPU
    of another kind has no such flags."""
    monkeypatch.setattr(onnxruntime, "x86_flags", lambda: flags)
    library, entries = onnxruntime.load_onnxruntime(), []

    class Options(library.SessionOptions):  # type: ignore[misc, name-defined]
        def add_session_config_entry(self, name: str, value: str) -> None:
            entries.append((name, value))
            super().add_session_config_entry(name, value)

    monkeypatch.setattr(library, "SessionOptions", Options)
    session = ENGINES["onnxruntime"].open(bundle, "int8", threads=1)
    assert [value for name, value in entries if name == "session.x64quantprecision"] == [key] * 4 * (key is not None)
    assert ("int8_products" in session.describe()) == (key is not None)
    bundles.check_answers(session)


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    """From 1.29 on its wheels tell Microsoft of each session; what they begin with is a file in the temporary folder."""
    code = "import edgeprune, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    for given, used in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **given, "TMPDIR": str(tmp_path)},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == used
        assert used == "0" or not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nncf_reports_to_nobody(tmp_path: Path) -> None:
    """It tells Google Analytics where nobody has decided that; what it says goes to a stub."""
    pytest.importorskip("nncf", reason="needs NNCF: pip install 'edgeprune[train]'")
    environment = {name: value for name, value in os.environ.items() if name not in ("NNCF_CI", "NNCF_DEV", "CI")}
    code = "import edgeprune; from nncf.telemetry import telemetry; print(type(telemetry).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "MagicMock"

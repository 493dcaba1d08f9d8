"""The bucket family in PyTorch: what a CUDA graph may hold, what is measured, and what is said without a GPU."""

import json
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle.target import BucketFamily
from edgeprune.export.graphs import to_outputs
from edgeprune.lab.in_torch import __main__ as command
from edgeprune.lab.in_torch import bench as in_torch
from edgeprune.lab.in_torch.bench import DynamicRunner, GraphRunner, Rounds, bench_in_torch, make_family, random_frame
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import POLICIES
from edgeprune.runtime.meters import Energy, open_meter
from tests import models

CPU = torch.device("cpu")
SPEC = ModelSpec(depth=4, height=models.HEIGHT, width=models.WIDTH)
STATIC = [name for name in POLICIES if name not in ("dense", "ats")]


def leaves(outputs: Any) -> list[Tensor]:
    """The tensors of nested tuples and lists."""
    return [outputs] if isinstance(outputs, Tensor) else [leaf for each in outputs for leaf in leaves(each)]


def replays(step: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """A CUDA graph's behaviour on a CPU: one set of outputs, which each replay writes again, whoever reads them."""
    outputs = step()

    def replay() -> None:
        for old, new in zip(leaves(outputs), leaves(step()), strict=True):
            old.copy_(new)

    return replay, outputs


class TenWatts:
    """A meter of a GPU that draws 10 W while a frame runs, and 4 W between."""

    name = "fake"

    def __init__(self) -> None:
        self.watts = iter([4.0])

    def start(self) -> None: ...

    def stop(self) -> Energy:
        joules = next(self.watts, 10.0)
        return Energy("measured by a fake", {"gpu0": joules}, joules, ("gpu0",), 2, 1.0, None)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_torch, "capture_cuda", replays)
    monkeypatch.setattr(in_torch, "IDLE_S", 0.01)


@pytest.mark.parametrize("policy", STATIC)
def test_a_capture_may_hold_it(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On `meta`, as in a capture, no value can be read by the host, and nothing of another device can be taken in."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta
    model = make_family(SPEC, PolicySpec(name=policy, options=models.SMALL.get(policy, {})), torch.float16, CPU)
    counts = model.policy.schedule.round_up(model.policy.schedule.target_counts)
    model = model.to("meta")
    state, need = in_torch.run_trunk(
        model, torch.zeros(models.HEIGHT, models.WIDTH, 3, dtype=torch.uint8, device="meta")
    )
    (labels_HW,) = to_outputs(model, model.tail(*state, counts), "onnxruntime")
    assert {each.device.type for each in (need, labels_HW)} == {"meta"}
    assert labels_HW.shape == (models.HEIGHT // 2, models.WIDTH // 2)


def test_a_host_read_would_be_found() -> None:
    """What the test above stands on."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta").nonzero()
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="meta").sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta") + torch.zeros(3)


@pytest.mark.parametrize("policy", STATIC)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_graphs_and_launched_kernels_agree(policy: str, dtype: torch.dtype, without_gpu: None) -> None:
    """In each dtype, frame after frame: no output of an earlier frame is left over."""
    torch.manual_seed(0)
    model = make_family(SPEC, PolicySpec(name=policy, options=models.SMALL.get(policy, {})), dtype, CPU)
    counts = model.policy.schedule.round_up(model.policy.schedule.target_counts)
    with torch.inference_mode():
        for weight in model.head.parameters():
            weight.normal_(std=0.3)  # labels that differ by frame
        graph, launched = GraphRunner(model, counts), DynamicRunner(model, counts, spread=1)
        frames = [random_frame(SPEC, seed, CPU) for seed in range(2)] + [torch.zeros_like(random_frame(SPEC, 0, CPU))]
        answers = [graph(frame)[0].clone() for frame in frames]
        assert all(torch.equal(answer, launched(frame)[0]) for answer, frame in zip(answers, frames, strict=True))
        assert not torch.equal(answers[0], answers[2])


def test_what_is_measured(without_gpu: None, said: list[str]) -> None:
    rows = bench_in_torch(
        SPEC, PolicySpec(name="svit", options={"first": 1}), "bf16", BucketFamily(count=3, multiple=4), TenWatts(),
        CPU, Rounds(2, frames=3, seconds=0),
    )  # fmt: skip
    names = list(dict.fromkeys(row["graph"] for row in rows))
    assert names == ["dense", "k16", "full"]
    assert [row["mode"] for row in rows] == ["CUDA graph", "dynamic"] * 3
    shares = [row["token_share"] for row in rows[2::2]]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] == 1
    assert rows[0]["speedup_vs_dense"] == 1 and rows[0]["speedup_spread"] == [1, 1]
    assert all(row["latency_ms"]["p50"] > 0 and row["tokens"] == models.N for row in rows)
    # two rounds of three frames, 10 J each, 4 J of them idle
    assert {row["mj_per_frame"] for row in rows} == {1e3 * 20 / 6} and {row["mj_above_idle"] for row in rows} == {
        1e3 * 12 / 6
    }
    assert sum("round" in line for line in said) == 2


def test_without_a_sensor_energy_is_unknown(without_gpu: None) -> None:
    rows = bench_in_torch(
        SPEC, PolicySpec(name="svit", options={"first": 1}), "fp32", BucketFamily(count=2, multiple=4), open_meter("none"),
        CPU, Rounds(1, frames=1, seconds=0),
    )  # fmt: skip
    assert {row["mj_per_frame"] for row in rows} == {None} and rows[0]["energy_status"].startswith("no energy sensor")


def test_a_capture_warms_up_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that PyTorch's documentation asks for ("CUDA semantics", whole-network capture)."""
    calls: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            calls.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def inside(what: Any) -> Any:
        name = "stream" if isinstance(what, Stream) else "capture"
        calls.append(f"enter {name}")
        yield
        calls.append(f"leave {name}")

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    current = Stream("current")
    for name, value in {
        "Stream": Stream, "current_stream": lambda: current, "stream": inside, "graph": inside, "CUDAGraph": Graph,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)

    def step() -> str:
        calls.append("step")
        return "outputs"

    replay, outputs = in_torch.capture_cuda(step)
    replay()
    assert outputs == "outputs"
    assert calls == [
        "side waits for current", "enter stream", *["step"] * in_torch.WARM_UP, "leave stream", "current waits for side",
        "enter capture", "step", "leave capture", "replay",
    ]  # fmt: skip


@pytest.mark.parametrize(("policy", "reason"), [("dense", "no buckets"), ("ats", "has no graph")])
def test_a_policy_without_static_form_is_refused(policy: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make_family(SPEC, PolicySpec(name=policy), torch.float32, CPU)


def test_a_gpu_that_is_too_small(monkeypatch: pytest.MonkeyPatch, without_gpu: None) -> None:
    def full(step: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr(in_torch, "capture_cuda", full)
    with pytest.raises(RunError, match="ViT tiny 64x96 fp16: CUDA out of memory.*leave this --vit or --size out"):
        bench_in_torch(
            SPEC, PolicySpec(name="svit"), "fp16", BucketFamily(count=2), open_meter("none"),
            CPU, Rounds(1, frames=1, seconds=0),
        )  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu() -> None:
    with pytest.raises(InputError, match="sees no CUDA GPU here; type `edgeprune bench`"):
        command.main([], standalone_mode=False)


def test_the_command(
    without_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_gpu", lambda: CPU)
    monkeypatch.setattr(command, "describe_gpu", lambda device: {"name": "fake"})
    monkeypatch.setattr(command, "open_meter", lambda name: open_meter("none"))
    words = "--vit tiny --side 256 --dtype bf16 --rounds 1 --frames 1 --seconds 0 --out"
    command.main([*words.split(), str(tmp_path / "gpu")], standalone_mode=False)
    out = capsys.readouterr().out
    assert "x dense" in out and "no energy sensor" in out
    result = json.loads((tmp_path / "gpu" / "in-torch.json").read_text())
    assert result["policy"]["name"] == "cts-svit" and result["gpu"] == {"name": "fake"}
    assert {row["graph"] for row in result["rows"]} > {"dense", "full"}
    assert (tmp_path / "gpu" / "in-torch.csv").read_text().count("\n") == 1 + len(result["rows"])

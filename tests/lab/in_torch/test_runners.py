"""What runs a frame in PyTorch: what a CUDA graph may hold, what a replay gives, and the order of a capture."""

from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from edgeprune.export.graphs import TailGraph, TrunkGraph
from edgeprune.lab.in_torch import runners
from edgeprune.lab.in_torch.bench import make_family, random_frame
from edgeprune.lab.in_torch.gpu import place
from edgeprune.lab.in_torch.runners import DIALECT, GRAPH, MODES, DynamicRunner, FamilyRunner
from edgeprune.lab.peers import PEERS
from edgeprune.lab.peers.graphs import PeerGraph
from edgeprune.model.policy import Bucket
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import POLICIES
from tests import models
from tests.lab.in_torch.replays import as_replays

CPU = torch.device("cpu")
SPEC = ModelSpec(depth=4, height=models.HEIGHT, width=models.WIDTH)
STATIC = [name for name in POLICIES if name not in ("dense", "ats")]


@pytest.mark.parametrize("policy", STATIC)
def test_a_capture_may_hold_it(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On `meta`, as in a capture, no value can be read by the host, and nothing of another device can be taken in."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta
    model = make_family(SPEC, PolicySpec(name=policy, options=models.SMALL.get(policy, {})), torch.float16, CPU)
    counts = model.policy.schedule.round_up(model.policy.schedule.target_counts)
    model = model.to("meta")
    trunk, tail = TrunkGraph(model, [0.0] * len(model.policy.gated)), TailGraph(model, counts, DIALECT)
    *state, need = trunk(torch.zeros(models.HEIGHT, models.WIDTH, 3, dtype=torch.uint8, device="meta"))
    (labels_HW,) = tail(*state)
    assert {each.device.type for each in (need, labels_HW)} == {"meta"}
    assert labels_HW.shape == (models.HEIGHT // 2, models.WIDTH // 2)


@pytest.mark.parametrize("name", PEERS)
def test_a_capture_may_hold_a_peer(name: str) -> None:
    peer = place(PEERS[name].make(SPEC), CPU, torch.float16).to("meta")
    (labels_HW,) = PeerGraph(peer)(torch.zeros(models.HEIGHT, models.WIDTH, 3, dtype=torch.uint8, device="meta"))
    assert labels_HW.device.type == "meta" and labels_HW.shape == (models.HEIGHT // 2, models.WIDTH // 2)


def test_a_host_read_would_be_found() -> None:
    """What the tests above stand on."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta").nonzero()
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="meta").sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta") + torch.zeros(3)


@pytest.mark.parametrize("policy", STATIC)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_graphs_and_launched_kernels_agree(policy: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each dtype, frame after frame: no output of an earlier frame is left over."""
    monkeypatch.setitem(MODES, GRAPH, as_replays)
    torch.manual_seed(0)
    model = make_family(SPEC, PolicySpec(name=policy, options=models.SMALL.get(policy, {})), dtype, CPU)
    counts = model.policy.schedule.round_up(model.policy.schedule.target_counts)
    with torch.inference_mode():
        for weight in model.head.parameters():
            weight.normal_(std=0.3)  # labels that differ by frame
        thresholds = [0.0] * len(model.policy.gated)
        graph = FamilyRunner(model, thresholds, [Bucket("only", counts)], MODES[GRAPH])
        launched = DynamicRunner(model, thresholds, counts, spread=1)
        frames = [random_frame(SPEC, seed, CPU) for seed in range(2)] + [torch.zeros_like(random_frame(SPEC, 0, CPU))]
        answers = [graph(frame, lambda count: "only")[0].clone() for frame in frames]
        assert all(torch.equal(answer, launched(frame)[0]) for answer, frame in zip(answers, frames, strict=True))
        assert not torch.equal(answers[0], answers[2])


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

    replay = runners.as_cuda_graph(step)
    assert replay() == "outputs"
    assert calls == [
        "side waits for current", "enter stream", *["step"] * runners.WARM_UP, "leave stream", "current waits for side",
        "enter capture", "step", "leave capture", "replay",
    ]  # fmt: skip

"""The bucket family of an untrained model in PyTorch: what is measured, and what is said without a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle.target import BucketFamily
from edgeprune.lab.in_torch import __main__ as command
from edgeprune.lab.in_torch import gpu, rounds
from edgeprune.lab.in_torch.bench import bench_in_torch, make_family
from edgeprune.lab.in_torch.rounds import Rounds
from edgeprune.lab.in_torch.runners import GRAPH, MODES
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.runtime.meters import NoSensor, open_meter
from tests import models
from tests.lab.in_torch.replays import TenWatts, as_replays

CPU = torch.device("cpu")
SPEC = ModelSpec(depth=4, height=models.HEIGHT, width=models.WIDTH)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODES, GRAPH, as_replays)
    monkeypatch.setattr(rounds, "IDLE_S", 0.01)


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


@pytest.mark.parametrize(("policy", "reason"), [("dense", "no buckets"), ("ats", "has no graph")])
def test_a_policy_without_static_form_is_refused(policy: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make_family(SPEC, PolicySpec(name=policy), torch.float32, CPU)


def test_a_gpu_that_is_too_small(monkeypatch: pytest.MonkeyPatch, without_gpu: None) -> None:
    def full(step: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setitem(MODES, GRAPH, full)
    assert {"--vit", "--side"} <= {param.opts[0] for param in command.main.params}
    with pytest.raises(RunError, match="ViT tiny 64x96 fp16: CUDA out of memory.*leave this --vit or --side out"):
        bench_in_torch(
            SPEC, PolicySpec(name="svit"), "fp16", BucketFamily(count=2), open_meter("none"),
            CPU, Rounds(1, frames=1, seconds=0),
        )  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu() -> None:
    with pytest.raises(InputError, match="sees no CUDA GPU here; type `edgeprune bench`"):
        command.main([], standalone_mode=False)


def test_the_meter_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes that of a server's CPU."""
    meter = TenWatts()
    monkeypatch.setattr(gpu, "open_meter", {"nvml": meter}.__getitem__)
    assert gpu.open_gpu_meter() is meter

    def without(name: str) -> None:
        raise NoSensor("NVML needs nvidia-ml-py")

    monkeypatch.setattr(gpu, "open_meter", without)
    assert gpu.open_gpu_meter().stop().status == "no energy sensor: NVML needs nvidia-ml-py"


def test_the_command(
    without_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_gpu", lambda: CPU)
    monkeypatch.setattr(command, "describe_gpu", lambda device: {"name": "fake"})
    monkeypatch.setattr(command, "open_gpu_meter", lambda: open_meter("none"))
    words = "--vit tiny --side 256 --dtype bf16 --rounds 1 --frames 1 --seconds 0 --out"
    command.main([*words.split(), str(tmp_path / "gpu")], standalone_mode=False)
    out = capsys.readouterr().out
    assert "x dense" in out and "no energy sensor" in out
    result = json.loads((tmp_path / "gpu" / "in-torch.json").read_text())
    assert result["policy"]["name"] == "cts-svit" and result["gpu"] == {"name": "fake"}
    assert {row["graph"] for row in result["rows"]} > {"dense", "full"}
    assert (tmp_path / "gpu" / "in-torch.csv").read_text().count("\n") == 1 + len(result["rows"])

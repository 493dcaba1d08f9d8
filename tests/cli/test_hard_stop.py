"""A build of TensorRT is minutes of native code, which no signal of Python's gets through."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import bundles
from tests.cli.conftest import Type
from tests.runtime.engines.jetson import Jetson

SLOW = """
import hashlib, sys, threading
sys.path.insert(0, {root!r})
from edgeprune.cli.device import compile_
from edgeprune.base.ending import end_on_signals
from edgeprune.runtime.engines import cuda
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.fake_cuda import FakeCudart
end_on_signals()
cudart = FakeCudart()
cuda.load_library = lambda: cudart
trt = sys.modules["tensorrt"] = fake_tensorrt.make({version!r}, cudart)
build, count = trt.Builder.build_serialized_network, 0
def slowly(builder, network, config):
    global count
    count += 1
    if count == 2:  # native code for minutes
        threading.Timer(0.1, print, ["ready"], {{"flush": True}}).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)
    return build(builder, network, config)
trt.Builder.build_serialized_network = slowly
compile_.main([{bundle!r}], standalone_mode=False)
"""


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["once", "twice"])
def test_compiling_is_ended_within_a_build_and_what_was_compiled_is_kept(
    edgeprune: Type, thor: Jetson, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    folder = bundles.write_bundle(tmp_path / "tiny", engine="tensorrt", compiled_on_device=True).folder
    root = str(Path(bundles.__file__).parents[1])
    script = SLOW.format(root=root, version=thor.trt.__version__, bundle=str(folder))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        for each in signals:
            process.send_signal(each)
        _, said = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130 and said.splitlines()[-1] == "stopped"
    [plan] = thor.cache.glob("*.plan")
    assert sorted(path.suffix for path in thor.cache.iterdir()) == [".cache", ".json", ".plan"]  # whole, all of them
    first = plan.stat().st_mtime_ns
    again = edgeprune("compile", folder)
    assert again.code == 0 and plan.stat().st_mtime_ns == first
    assert len(thor.trt.built) == len(list(thor.cache.glob("*.plan"))) - 1

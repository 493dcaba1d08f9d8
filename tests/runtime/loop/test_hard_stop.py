"""A graph that takes longer than a service manager waits."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.cameras import open_source
from tests import bundles

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

SLOW = """
import hashlib, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from edgeprune.bundle import open_bundle
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.base.ending import end_on_signals, hard_stop
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.run import run
from edgeprune.runtime.stream import Stream
from tests.runtime.loop.fakes import Scripted
end_on_signals()
bundle = open_bundle(Path({bundle!r}))
session = ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)
class Slow:
    count, bucket_of, reset, remembered = 0, session.bucket_of, session.reset, None
    def start(self, frame_HW3):
        self.count += 1
        if self.count == 6:  # native code for minutes
            threading.Timer(0.1, print, ["ready"], {{"flush": True}}).start()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)
        return session.start(frame_HW3)
    def finish(self, bucket):
        return session.finish(bucket)
    def describe(self):
        return session.describe()
    def close(self):
        pass
folder = Path({folder!r})
names = {{"record": "rows.csv", "out": "overlay.mp4", "labels": "labels"}}
with hard_stop(0):
    run(Stream(bundle, Slow(), make_chooser("in-frame", bundle.manifest.buckets), open_capture(Scripted(400))),
        open_meter("none"), pipeline={pipeline!r}, outputs={{key: str(folder / name) for key, name in names.items()}})
"""


@pytest.mark.parametrize("pipeline", ["off", "all"])
def test_a_run_is_ended_within_a_slow_graph(bundle: Bundle, tmp_path: Path, pipeline: str) -> None:
    root = str(Path(bundles.__file__).parents[1])
    script = SLOW.format(root=root, bundle=str(bundle.folder), folder=str(tmp_path), pipeline=pipeline)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=600) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "overlay.mp4", "rows.csv"]
    with (tmp_path / "rows.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    assert len(list(open_source(str(tmp_path / "overlay.mp4")))) == 5
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [f"{index:08d}.png" for index in range(5)]

"""What CONTRIBUTING.md says of adding a policy, an engine, a meter, a camera and a sink is all that there is to it.

Each is a module of its own and a row in the dict, from outside of edgeprune, and is driven as a user would drive it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeprune.bundle.target import load_target
from edgeprune.model.policy import Shape
from edgeprune.pruning.methods import POLICIES
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.svit import SViTOptions
from tests import bundles, models
from tests.pruning import test_forms as forms

ROOT = Path(__file__).resolve().parents[2]

ENGINE = '''
"""ONNX's reference implementation: slow, and right by definition."""

import numpy as np
from onnx.reference import ReferenceEvaluator

from edgeprune.runtime.engines.bound import HostInput
from edgeprune.runtime.engines.engine import Engine


class Reference(Engine):
    def check(self):
        pass

    def bind(self, path, threads, state=None):
        return Evaluated(path, state)


class Evaluated:
    def __init__(self, path, state):
        self._graph, self._state = ReferenceEvaluator(str(path)), state
        self.outputs = dict.fromkeys(self._graph.output_names)
        self.inputs = {}
        if state is None:
            for value in self._graph.proto_.graph.input:
                shape = tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
                self.inputs[value.name] = HostInput(shape, np.dtype(np.uint8))

    def run(self, given):
        values = {**given, **(self._state or {})}
        answers = self._graph.run(None, {name: values[name] for name in self._graph.input_names})
        self.outputs.update(zip(self.outputs, answers, strict=True))

    def read(self, name):
        return np.copy(self.outputs[name])

    def describe(self):
        return {"engine": "reference", "version": "1", "provider": "numpy", "provider_asked": "numpy", "thread_policy": "one"}

    def close(self):
        pass
'''
METER = '''
"""Two watts, where there is a file that says so."""

import time

from edgeprune.runtime.meters.meter import Energy, NotHere, check_rails


class Steady:
    name = "steady"

    def start(self):
        self._began_s = time.monotonic()

    def watts(self):
        return 2.0

    def stop(self):
        seconds = time.monotonic() - self._began_s
        return Energy("measured by assumption", {"in": 2 * seconds}, 2 * seconds, ("in",), 2, seconds, None)


def open_steady(root, rails, total_of):
    if not (root / "tmp").is_dir():
        raise NotHere("no steady sensor")
    check_rails([*(rails or ()), *(total_of or ())], ["in"], "Steady")
    return Steady()
'''
CAMERA = '''
"""Frames with a bright cell more each: ramp://cells?frames=3."""

from edgeprune.runtime.cameras.query import Option, read_options
from edgeprune.runtime.cameras.source import FrameSource, Picture
from tests import bundles

OPTIONS = {"frames": Option(4, least=1, most=24)}


class Ramp(FrameSource):
    def __init__(self, uri, wanted):
        super().__init__(uri, live=wanted.realtime, fps=10, loop=wanted.loop, paced=wanted.realtime)
        self._frames = read_options(uri, OPTIONS)["frames"]

    def one_pass(self):
        for index in range(self._frames):
            yield Picture(bundles.frame_with(index), name=f"ramp-{index}")
'''
SINK = '''
"""The names of the frames, a line each."""

from pathlib import Path

from edgeprune.base.outputs import create_partial, finish_partial, refuse_remains
from edgeprune.runtime.sinks.sink import Output, Sink


def name_list_output(name):
    refuse_remains(Path(name))
    return Output(Path(name))


class NameList(Sink):
    def __init__(self, name, source):
        self._path = Path(name)
        self._partial, self._file = create_partial(self._path, "names")

    def add(self, result, row):
        self._file.write(f"{result.name} {result.bucket}\\n".encode())
        return row

    def close(self):
        if not self._file.closed:
            finish_partial(self._partial, self._file, self._path)
'''
ROWS = """
import sys
sys.path[:0] = [{root!r}, {folder!r}]
from added_camera import OPTIONS, Ramp
from added_engine import Reference
from added_meter import open_steady
from added_sink import NameList, name_list_output
from edgeprune.runtime.cameras import SOURCES, CameraKind
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import SENSORS
from edgeprune.runtime.sinks import SINKS, SinkKind
SOURCES["ramp"] = CameraKind(Ramp, "ramp://cells", scheme=True, options=OPTIONS)
ENGINES["reference"] = Reference()
SENSORS["steady"] = ("Steady (nowhere)", open_steady)
SINKS["names"] = SinkKind("FILE", "The names of the frames.", name_list_output, NameList)
from edgeprune.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules, a program that adds their rows and is `edgeprune` then, and a bundle for the engine."""
    folder = tmp_path_factory.mktemp("extending")
    for kind, text in {"engine": ENGINE, "meter": METER, "camera": CAMERA, "sink": SINK}.items():
        (folder / f"added_{kind}.py").write_text(text)
    (folder / "rows.py").write_text(ROWS.format(root=str(ROOT), folder=str(folder)))
    bundles.write_bundle(folder / "bundle", engine="reference")
    return folder


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`edgeprune run` with the rows added."""
    command = [sys.executable, "rows.py", "run", "--bundle", "bundle", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_an_engine_a_camera_a_meter_and_a_sink_in_one_run(folder: Path) -> None:
    words = ("--camera", "RAMP://cells?frames=9", "--meter", "steady", "--names", "names.txt", "--precision", "fp32")
    done = run(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    expected = [bundles.expected_bucket(bundles.frame_with(index)) for index in range(9)]
    assert summary["frames"] == 9 and summary["buckets"] == {
        name: expected.count(name) for name in sorted(set(expected))
    }
    assert summary["engine"]["engine"] == "reference"
    assert summary["camera"]["uri"].startswith("ramp://cells?frames=")
    assert summary["energy"]["status"] == "measured by assumption" and summary["energy"]["mj_per_frame"] > 0
    names = [f"ramp-{index} {bucket}" for index, bucket in enumerate(expected)]
    assert (folder / "names.txt").read_text().splitlines() == names
    assert not list(folder.glob("*partial*"))


def test_the_help_and_the_errors_name_them(folder: Path) -> None:
    helped, mistyped, gone = (
        " ".join((done.stdout + done.stderr).split())
        for done in (run(folder, "--help"), run(folder, "--camera", "rmp://a"), run(folder, "--camera", "gone"))
    )
    for words in ("--names FILE The names of the frames.", "or ramp://cells.", "nvml, steady, none", ", reference;"):
        assert words in helped, helped
    assert "choices: rtsp, rtsps, http, https, csi, synthetic, ramp; did you mean 'ramp'?" in mistyped
    assert "; a camera is 0, /dev/video0, " in gone and "or ramp://cells" in gone


def test_a_target_for_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("extends: onnx-cpu\nname: board\nsummary: a board\nengine: reference\n")
    assert load_target(str(path)).engine == "reference"


class Corner(Random):
    """The first K tokens, whatever they show."""

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape, options)
        order_N = 1 - torch.arange(shape.grid[0] * shape.grid[1]) / 1000
        self.scores_GN = order_N.repeat(len(self.scores_GN), 1)


def test_a_policy_has_two_forms_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "corner", (SViTOptions, Corner))
    monkeypatch.setitem(models.SMALL, "corner", {"first": 1})
    model = models.model(models.card("corner", depth=forms.DEPTH))
    assert type(model.policy) is Corner
    forms.test_training_form_equals_inference_form(model, 2)
    forms.test_the_selections_themselves_are_equal(model)
    forms.test_every_token_in_every_block_is_the_dense_model(model)
    forms.test_an_image_is_answered_as_if_it_were_alone(model)
    forms.test_selection_matters(model)

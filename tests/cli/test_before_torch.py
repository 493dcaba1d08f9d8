"""What a verb was given is read before torch, whose import takes seconds and hundreds of megabytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeprune.base.reading import ROOT, shipped

# its header is whole, so it is what comes after that is refused
CARD = Path(__file__).parents[1] / "fuzz" / "seeds" / "checkpoint" / "dense.safetensors"
GATED = ROOT / "zoo" / "street-tiny" / "qat.safetensors"
READ = """
import contextlib, io, json, sys
from edgeprune.cli.commands import run_command

for words in json.loads(sys.argv[1]):
    sys.argv = ["edgeprune", *words]
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = run_command()
    print(json.dumps([code, err.getvalue(), [name for name in ("torch", "nncf") if name in sys.modules]]))
"""


def recipe(folder: Path, **changes: Any) -> str:
    content = yaml.safe_load((ROOT / "train" / "recipes" / "street-short.yaml").read_text()) | changes
    path = folder / f"recipe-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def plan(folder: Path, **changes: Any) -> str:
    content = {"name": "p", "recipe": "street-short", "dense": "zoo:street-tiny/reference", "score": {"data": "street"}}
    path = folder / f"plan-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(content | {"rows": {"dense": {}, "svit": {}}} | changes))
    return str(path)


def test_what_is_wrong_with_a_file_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'edgeprune[train]'")
    bad, gone, noise = tmp_path / "bad.yaml", tmp_path / "gone.yaml", tmp_path / "noise.safetensors"
    bad.write_text("a: [")
    noise.write_bytes(b"noise")
    (tmp_path / "empty").mkdir()
    target = yaml.safe_load((shipped("targets") / "onnx-cpu.yaml").read_text())
    (tmp_path / "target.yaml").write_text(yaml.safe_dump(target | {"name": "../../elsewhere"}))
    phases = yaml.safe_load((ROOT / "train" / "recipes" / "street-short.yaml").read_text())["phases"]
    first = next(iter(phases))
    of_data = phases | {first: phases[first] | {"data": [{"data": str(bad)}]}}
    of_teacher = phases | {first: phases[first] | {"teacher": ["sparse", str(noise)]}}
    of_start = phases | {first: phases[first] | {"start": str(noise)}}
    street = ("--data", "street")
    cases: list[tuple[tuple[str, ...], str]] = [
        (("train", str(bad)), "bad.yaml is not valid YAML"),
        (("train", "street-shrt"), "unknown recipe"),
        (("train", "street-short", "--phase", "dnse"), "no phase 'dnse'"),
        (("train", recipe(tmp_path, phases=of_data)), "bad.yaml is not valid YAML"),
        (("train", recipe(tmp_path, phases=of_start)), "noise.safetensors is not a whole"),
        (("train", recipe(tmp_path, phases=of_teacher)), "noise.safetensors is not a whole"),
        (("train", recipe(tmp_path, weights=str(tmp_path / "none.safetensors"))), "none.safetensors is not there"),
        (("train", recipe(tmp_path, calibration={"data": str(gone)})), "gone.yaml is not there"),
        (("build", "--checkpoint", str(noise)), "noise.safetensors is not a whole"),
        (("build", "--target", str(bad)), "bad.yaml is not valid YAML"),
        (("build", "--target", str(tmp_path / "target.yaml")), "a bundle's folder has it"),
        (("build", "--calib", str(bad)), "bad.yaml is not valid YAML"),
        (("build", "--reference", str(noise)), "noise.safetensors is not a whole"),
        (("build", "--out", str(bad)), "bad.yaml is a file; name a folder"),
        (("calibrate", str(noise), *street), "noise.safetensors is not a whole"),
        (("calibrate", str(CARD), "--data", str(bad), "--out", "calib.yaml"), "bad.yaml is not valid YAML"),
        (
            ("calibrate", str(CARD), *street, "--split", "trian", "--out", "calib.yaml"),
            "options: split: input should be",
        ),
        (("compare", str(tmp_path / "gone.json")), "gone.json is not there"),
        (("compare", str(bad)), "bad.yaml is not valid YAML"),
        (("compare", plan(tmp_path, recipe=str(bad))), "bad.yaml is not valid YAML"),
        (("compare", plan(tmp_path, target="onx-cpu")), "unknown target"),
        (("compare", plan(tmp_path, score={"data": str(bad)})), "bad.yaml is not valid YAML"),
        (("compare", plan(tmp_path, name="../p")), "name: string should match pattern"),
        (("compare", plan(tmp_path, rows={"dense": {}, "../../x": {}})), "rows.../../x"),
        (("ablate", "selection", str(noise), *street), "noise.safetensors is not a whole"),
        (("ablate", "selection", str(CARD), "--data", str(bad)), "bad.yaml is not valid YAML"),
        (("ablate", "selection", str(GATED), *street, "--calib", str(bad)), "bad.yaml is not valid YAML"),
        (("baselines", "--checkpoint", str(noise), *street), "noise.safetensors is not a whole"),
        (("show", str(noise)), "noise.safetensors is not a whole"),
        (("ablate", "int8", str(noise), *street), "noise.safetensors is not a whole"),
        (("lint", str(noise)), "is no whole ONNX graph"),
        (("data", "lint", str(bad)), "bad.yaml is not valid YAML"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps([words for words, _ in cases])],
        cwd=tmp_path / "empty", capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), done.stderr
    for (words, said), (code, err, imported) in zip(cases, answers, strict=True):
        assert (code, imported) == (2, []), (words, code, err, imported)
        assert said in err and len(err.splitlines()) == 1, (words, err)
    assert list((tmp_path / "empty").iterdir()) == []  # nothing is left of a verb that was refused

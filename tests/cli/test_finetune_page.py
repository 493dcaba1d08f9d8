"""`docs/finetune.md` as it stands there, typed from its first line to its last. The data set, the ViT and the schedule are
tiny, the target has two buckets in INT8, and frames come from the data set: no test machine has a camera."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file

from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from tests import models
from tests.cli.conftest import Said, Type
from tests.model import vits

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "finetune.md"
HUB = "hub:timm/vit_small_patch14_dinov2.lvd142m"
WEIGHTS = "vit.safetensors"
TINY = [
    *(f"phases.{phase}.{key}" for phase in ("crops", "sparse", "qat") for key in ("frames=4", "batch=2")),
    *("policy.options.first=1", "validation.frames=2", "validation.times=1", "calibration.frames=8", "workers=0"),
]
TARGET = "name: small\nextends: onnx-cpu\nprecisions: [int8]\nprecision_per_bucket: false\nbuckets: {count: 2, multiple: 4}\n"
IN_PLACE_OF = {
    HUB: WEIGHTS,
    "--target onnx-cpu": "--target small.yaml",
    "--camera 0": "--camera my-set/val/images --meter none",
}


def write_set(folder: Path) -> None:
    """Small street scenes, in a layout that says itself."""
    data_set = load_data_set(models.write_street(folder))
    for split in ("train", "val"):
        samples = open_split(data_set, split)
        for kind in ("images", "labels"):
            (folder / "my-set" / split / kind).mkdir(parents=True)
        for index, name in enumerate(samples.names):
            sample = samples[index]
            Image.fromarray(sample.image_HW3).save(folder / "my-set" / split / "images" / f"{name}.png")
            Image.fromarray(sample.label_HW).save(folder / "my-set" / split / "labels" / f"{name}.png")


def blocks() -> list[tuple[str, str]]:
    """Language and text of the page's blocks of code, in order."""
    return re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(), re.S)


def test_the_whole_way(edgeprune: Type, tmp_path: Path) -> None:
    write_set(tmp_path)
    save_file(vits.vit(depth=2), tmp_path / WEIGHTS)
    (tmp_path / "small.yaml").write_text(TARGET)
    typed: list[str] = []
    for language, text in blocks():
        if language == "python":
            run_python(text)
            continue
        for line in text.splitlines():
            said = type_line(edgeprune, line)
            assert said.code == 0, f"{line}\n{said.err}"
            typed.append(line.split()[1])
    assert typed == [*["data"] * 3, *["train"] * 2, "report", "build", "eval", "bench", "run"]
    run = tmp_path / "out" / "train" / "finetune-my-set"
    named = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M)
    for name in re.findall(r"`(.*?)`", " ".join(named)):
        assert [*run.glob(name.replace("PHASE", "*"))], name
    assert (tmp_path / "out" / "seeds.png").stat().st_size and (tmp_path / "out" / "bundles" / "mine").is_dir()


def type_line(edgeprune: Type, line: str) -> Said:
    """Types a line of the page, with what is tiny in place of what it names."""
    for there, here in IN_PLACE_OF.items():
        line = line.replace(there, here)
    _, *words = line.split()
    small = [word for override in TINY for word in ("--set", override)] if words[0] == "train" else []
    return edgeprune(*words, *small)


def run_python(text: str) -> None:
    """The snippet, with the tiny schedule in `overrides`."""
    text = text.replace(HUB, WEIGHTS).replace('overrides=["seed=1"]', 'overrides=["seed=1", *TINY]')
    assert "*TINY" in text
    given: dict[str, Any] = {"TINY": TINY}
    exec(compile(text, str(PAGE), "exec"), given)
    assert len(given["checkpoints"]) == 3

"""Targets: what a file may leave out, and what of a target goes to the device."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.reading import read_yaml, shipped
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.bundle.target import load_target


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_what_a_file_leaves_out_is_that_of_the_target_it_extends(tmp_path: Path) -> None:
    base = load_target("onnx-cpu")
    mine = load_target(written(tmp_path, "name: mine\nextends: onnx-cpu\nthreads: 4\nbuckets: {multiple: 16}\n"))
    assert (mine.name, mine.threads) == ("mine", 4)
    assert (mine.buckets.multiple, mine.buckets.count) == (16, 5)  # a key is replaced as a whole
    changes = {"name": "mine", "threads": 4, "buckets": mine.buckets}
    assert mine == base.model_copy(update=changes)


def test_a_target_may_extend_one_that_extends_another(tmp_path: Path) -> None:
    mine = load_target(written(tmp_path, "name: mine\nextends: jetson-orin-nano\nthreads: 6\n"))
    assert (mine.power.total, mine.engine, mine.beside_int8) == (["VDD_IN"], "tensorrt", "fp16")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: mine\nextends: onnx-cup\n",
            "unknown target in .*mine.yaml: extends 'onnx-cup'; .*did you mean 'onnx-cpu'",
        ),
        ("name: mine\nextends: [onnx-cpu]\n", "unknown target in .*mine.yaml: extends"),
        ("name: mine\nextends: ./mine.yaml\n", "unknown target in .*mine.yaml: extends"),
        ("extends: onnx-cpu\n", "mine.yaml: name: field required"),
        ("name: mine\nextends: onnx-cpu\nthreds: 4\n", "unknown key 'threds'.*did you mean 'threads'"),
        ("name: mine\nextends: onnx-cpu\npower: {metre: auto}\n", "unknown key 'power.metre'.*did you mean 'meter'"),
        (
            "name: mine\nextends: onnx-cpu\nprecisions: [int8, int8_mlp]\n",
            "precisions.1: input should be 'int8', .* found 'int8_mlp'; did you mean 'int8-mlp'",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_target(written(tmp_path, text))


def test_a_jetsons_file_shows_what_is_its_own() -> None:
    common = load_target("jetson-orin")
    for path in sorted(shipped("targets").glob("jetson-*.yaml")):
        own = read_yaml(path, "target")
        target = load_target(path.stem)
        differs = {key for key in type(target).model_fields if getattr(target, key) != getattr(common, key)}
        assert target == common or set(own) - {"extends"} == differs


def test_a_device_gets_what_it_needs() -> None:
    target = load_target("jetson-orin-nano")
    spec = target.runtime()
    assert type(spec) is RuntimeSpec and spec.power == target.power and spec.parity == target.parity
    assert not {"lint", "buckets", "dialect", "candidates"} & spec.model_dump().keys()


def test_a_target_that_differs_has_another_hash() -> None:
    target = load_target("onnx-cpu")
    assert target.sha256() == load_target("onnx-cpu").sha256()
    assert target.sha256() != target.model_copy(update={"lint": target.lint[1:]}).sha256()


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match="unknown target 'jetson'"):
        load_target("jetson")

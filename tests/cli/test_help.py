"""What the help shows, and what is answered to a name or an option that is none any more, or says nothing beside another."""

import re
import shlex
from pathlib import Path

import pytest

from edgeprune.cli.commands import RENAMED, SECTIONS
from edgeprune.cli.options import AS_TYPED, CHECKPOINT, PATH
from tests.cli.compiled import one_picture
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line
from tests.cli.typed import options_of, parse, verbs
from tests.runtime.engines.jetson import Jetson

VERBS = dict(verbs())


def test_verbs_stand_in_sections(edgeprune: Type) -> None:
    said = edgeprune("--help")
    titles = [line[:-1] for line in said.out.splitlines() if re.fullmatch(r"\w+:", line)]
    assert titles == ["Usage", "Options", *SECTIONS][1:]
    for title, names in SECTIONS.items():
        listed = said.out.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in listed] == list(names)
        assert not [line for line in listed if line.endswith("...")]  # what a verb does is read whole


def test_the_command_line_stays_one_that_can_be_remembered() -> None:
    """A ceiling: who raises it has looked for an option that can go."""
    counts = {name: len(options_of(verb)) for name, verb in VERBS.items()}
    assert len(counts) <= 27 and sum(counts.values()) <= 158 and max(counts.values()) <= 27


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_ends_with_two_examples(edgeprune: Type, name: str) -> None:
    said = edgeprune(*name.split(), "--help")
    examples = VERBS[name].examples
    assert said.code == 0 and len(set(examples)) == 2
    assert said.out.endswith("\nExamples:\n" + "".join(f"  {line}\n" for line in examples))
    assert "Instead" not in said.out


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, verb in VERBS.items() for line in verb.examples])
def test_an_example_works_as_it_is_typed(name: str, line: str) -> None:
    assert line.startswith(f"edgeprune {name}")
    context = parse(line.partition(" > ")[0])
    assert context.command is VERBS[name]
    VERBS[name].options(**context.params)


def test_a_path_is_one_in_every_verb() -> None:
    """An annotation says what kind of value an option takes."""
    for verb in VERBS.values():
        paths = {each.name for each in verb.params if each.type in (PATH, CHECKPOINT, AS_TYPED)}
        assert {"bundle", "out", "checkpoint", "calib", "cache"} & {each.name for each in verb.params} <= paths


@pytest.mark.parametrize(
    ("words", "new"),
    [
        *(((old,), f"{old} is `{new}` now") for old, new in RENAMED.items()),
        (("growth", "--bundle", "b"), "growth is `edgeprune scaling` now"),
        (("lint", "--data", "street"), "lint --data is `edgeprune data lint DATA` now"),
        (("lint", "--split", "val"), "lint --split is `edgeprune data lint DATA --split` now"),
        (("compile", "b", "--print-trtexec"), "compile --print-trtexec is `edgeprune trtexec BUNDLE` now"),
        (("bench", "--roofline"), "bench --roofline is `edgeprune roofline` now"),
        (("bench", "--peer", "a.onnx"), "bench --peer is `--baseline` now"),
        (("ablate", "selection", "a", "--int8"), "ablate selection --int8 is `edgeprune ablate int8` now"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(edgeprune: Type, words: tuple[str, ...], new: str) -> None:
    said = edgeprune(*words)
    assert (said.code, said.out, said.err) == (2, "", f"edgeprune: {new}\n")


def test_a_verb_of_no_version(edgeprune: Type) -> None:
    said = edgeprune("bnch")
    assert said.code == 2 and "No such command 'bnch'" in said.err and said.err.count("\n") == 1
    for words in (("data",), ("ablate",)):
        said = edgeprune(*words)
        assert (said.code, said.err) == (0, "") and "Verbs:\n" in said.out


def test_a_missing_argument_is_a_sentence(edgeprune: Type) -> None:
    said = edgeprune("inspect")
    assert said.err == "edgeprune inspect: Missing argument 'BUNDLE'; see edgeprune inspect --help\n"


# options that another one, or what was named, leaves without a meaning: none is accepted and ignored
PAIRS = {
    "run --bucket half --chooser previous-frame": "--bucket has no use for --chooser; leave one of the two out",
    "run --bucket half --chooser nonsense": "--bucket has no use for --chooser; leave one of the two out",
    "run --idle 5 --meter none": "--idle measures idle power: no energy sensor: none was asked for; leave it out; a meter",
    "run --camera 0 --loop": "camera 0 has no end to start again at; leave --loop out",
    "run --camera rtsp://me:secret@host/live --loop": "camera rtsp://***@host/live has no end to start again at",
    "run --camera csi://0 --realtime": "camera csi://0 is live anyway; leave --realtime out",
    "run --camera FRAMES --realtime": "images have no frame rate",
    "run --camera FRAMES --give-up 5m": "is no live camera, which could be lost; leave --give-up out",
    "run --camera FRAMES --decode software": "--decode is of compressed video, which ",
    "run --camera csi://0 --decode auto": "csi://0 is not; scale=0 in its URI leaves its frames as large as they are; leave it",
    "run --decode cude": "unknown --decode 'cude'; choices: auto, software, gstreamer, vaapi, cuda",
    "run --realtime --give-up 0": "synthetic://street?seed=1 is no live camera, which could be lost; leave --give-up out",
    "run --keep 5GB": "--keep bounds outputs without an end, such as --record rows/; name one, or leave --keep out",
    "run --record rows.csv --keep 5GB": "--keep bounds outputs without an end, such as --record rows/; name one",
    "run --record rows/ --keep 5": "--keep '5' is no size from 1MB to 1000TB; write one as 500MB, 1GB, 2TB",
    "run --budget 10W --budget 33ms": "--budget is there twice; leave one of the two out",
    "run --pipeline all --budget 33ms": "--pipeline all lets frames wait for the graphs, which --budget counts; type",
    "run --frames 2 --frames=3": "--frames is there twice; leave one of the two out",
    "report gone.csv": "gone.csv is not there; name a folder that `train` wrote, or a record",
    "run --give-up soon": "--give-up 'soon' is no duration up to a year; write one as 30s, 5m, 2h, or 0",
    "run --precision fp16": "holds fp32 and int8, no fp16, which is for GPUs alone; take one of these",
    "bench --engine onnxruntime --engine onnxruntime": "--engine onnxruntime is there twice; leave one of the two out",
    "energy --meter none": "energy can't be measured: no energy sensor: none was asked for; a meter at the plug is one too",
    "energy --meter command:": "names no program; type it behind the colon",
    "energy --engine tensorflow": "unknown engine 'tensorflow'; choices: ",
    "energy --precision fp16 --meter 'command:echo 5'": "holds fp32 and int8, no fp16",
    "scaling --bundle b/ --bundle b": "--bundle b is there twice; leave one of the two out",
    "bench --split train": "--split is of --data; give that too, or leave it out",
    "show --frames 3": "out/tokens.png is one picture; leave --frames out",
    "show DENSE --calib c.yaml": "is dense and has no thresholds; leave --calib out",
    "ablate selection DENSE --data street --calib c.yaml": "is dense and chooses no tokens; leave --calib out",
    "ablate selection DENSE --data street --seeds 2": "is dense and chooses no tokens; leave --seeds out",
    "ablate selection GATED --data street --bypass-from 3": "is cts-svit, not dense; leave --bypass-from out",
}
ZOO = Path(__file__).parents[2] / "edgeprune" / "zoo" / "street-tiny"


@pytest.mark.parametrize("line", PAIRS)
def test_no_option_is_accepted_and_ignored(edgeprune: Type, tiny: Path, tmp_path: Path, line: str) -> None:
    places = {
        "FRAMES": str(one_picture(tmp_path, 3)),
        "DENSE": str(ZOO / "reference.safetensors"),
        "GATED": str(ZOO / "qat.safetensors"),
    }
    verb, *words = (places.get(word, word) for word in shlex.split(line))
    bundle = ("--bundle", str(tiny)) if verb in ("run", "bench", "energy") else ()
    said = edgeprune(verb, *words, *bundle)
    assert_one_line(said, PAIRS[line])
    assert said.out == "" and "secret" not in said.err


@pytest.mark.parametrize("verb", ["run", "bench", "energy", "scaling"])
def test_threads_say_nothing_to_an_engine_on_a_gpu(jetson: Jetson, edgeprune: Type, folder: Path, verb: str) -> None:
    said = edgeprune(verb, "--bundle", folder, "--threads", 2)
    assert_one_line(said, "tensorrt has no use for --threads, its kernels run on a GPU; leave it out")
    assert jetson.trt.built == []


@pytest.mark.parametrize("line", ["run --camera 0", "eval --data street", "bench", "energy", "deploy me@orin"])
def test_the_default_bundle_in_the_help_is_the_one_that_is_opened(
    edgeprune: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    verb, *more = line.split()
    named = re.search(r"--bundle PATH\s+Default:\s+(out/bundles/\S+)\.\s", edgeprune(verb, "--help").out)
    assert named is not None
    refused = edgeprune(verb, *more)
    assert refused.code == 2 and f"no bundle at {named[1]};" in refused.err

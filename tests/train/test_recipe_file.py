"""The YAML of a recipe: what is wrong with it is said in one line, with the nearest right key; its paths, what it extends, and
what is left out of it."""

from os.path import normpath
from pathlib import Path

import pytest
import yaml

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT, parse
from edgeprune.lab.peers import PEERS
from edgeprune.train.checkpoint_file import file_named
from edgeprune.train.checks import check_recipe
from edgeprune.train.leave_out import leave_out, reported
from edgeprune.train.named import check_named
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe, written_to

RECIPE = "name: r\nphases: {dense: {kind: dense, data: [{data: street}], frames: 4}}\n"


def test_recipe_faults_name_their_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    assert load_recipe(path, ["phases.dense.frames=8"]).phases["dense"].frames == 8
    with pytest.raises(InputError, match=r"unknown key 'phases.dense.frmes'.*did you mean 'frames'"):
        load_recipe(path, ["phases.dense.frmes=8"])
    with pytest.raises(InputError, match=r"unknown key 'phases.dense.data.0.splt'; known: data, split.*mean 'split'"):
        parse(Recipe, {"name": "r", "phases": {"dense": {"data": [{"splt": "val"}]}}}, "recipe")
    with pytest.raises(InputError, match="phases.dense.frames: .*valid integer.*found 'lots'"):
        load_recipe(path, ["phases.dense.frames=lots"])
    with pytest.raises(InputError, match="expected KEY.KEY=VALUE"):
        load_recipe(path, ["phases.dense.frames"])
    with pytest.raises(InputError, match="does not lead to a mapping"):
        load_recipe(path, ["name.first=r"])


def test_booleans_stay_booleans(tmp_path: Path) -> None:
    content = {
        "name": "r",
        "bf16": True,
        "phases": {"dense": {"kind": "dense", "frames": 4, "data": [{"data": "street"}]}},
    }
    content["policy"] = {"name": "svit", "options": {"reactivation": False}}
    recipe = parse(Recipe, content, "recipe")
    assert recipe.bf16 is True and recipe.policy.options == {"reactivation": False}
    with pytest.raises(InputError, match=r"recipe: phases.dense.frames: expected a number, found true"):
        parse(
            Recipe,
            content | {"phases": {"dense": {"kind": "dense", "frames": True, "data": [{"data": "street"}]}}},
            "recipe",
        )


@pytest.mark.parametrize(
    "text", ["[]", "3", "phases: []", "phases: {dense: 3}", "phases: {dense: {data: 3}}", "validation: 3"]
)
def test_a_recipe_of_another_form_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as found:
        load_recipe(path)
    assert "\n" not in str(found.value)


# ------------------------------------------------------------------------------------------------ one that extends another


def test_a_recipe_takes_over_what_it_does_not_name(tmp_path: Path) -> None:
    base, path = load_recipe("finetune"), tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nextends: finetune\nmodel: {height: 512}\nphases: {sparse: {frames: 80, augment: {flip: 0}}}\n"
        "policy: {name: svit}\n"
    )
    mine = load_recipe(path)
    assert (mine.name, mine.extends, list(mine.phases)) == ("mine", None, list(base.phases))
    assert mine.model == base.model.model_copy(update={"height": 512})
    assert mine.phases["sparse"] == base.phases["sparse"].model_copy(
        update={"frames": 80, "augment": base.phases["sparse"].augment.model_copy(update={"flip": 0})}
    )
    assert mine.phases["crops"] == base.phases["crops"]
    assert (mine.policy.name, mine.policy.options) == ("svit", {})  # whole: the options are of its name
    path.write_text(yaml.safe_dump(mine.model_dump(mode="json")))  # as it is written into a run's folder
    assert load_recipe(path) == mine


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: mine\nextends: finetun\n",
            "unknown recipe in .*mine.yaml: extends 'finetun'; .*did you mean 'finetune'",
        ),
        ("extends: finetune\n", "mine.yaml: name: field required"),
        (
            "name: mine\nextends: finetune\nphases: {spars: {frames: 1}}\n",
            "mine.yaml: phases.spars.kind: field required",
        ),
    ],
)
def test_what_a_recipe_cannot_extend(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_recipe(tmp_path / "mine.yaml")


def test_extending_is_not_set_on_the_command_line() -> None:
    with pytest.raises(InputError, match=r"--set 'extends=camvid': a recipe extends another in its own file"):
        load_recipe("finetune", ["extends=camvid"])


SHIPPED = sorted(path.stem for path in (ROOT / "train" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_one(name: str) -> None:
    """Each phase of it could start: quantizers have a calibration, a teacher and a start are phases before, what another
    shipped recipe leaves, or of the zoo."""
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.summary and recipe.calibration
    before: list[str] = []
    for phase_name, phase in recipe.phases.items():
        for named in (phase.start, *phase.teachers):
            assert named is None or named in before or is_left_by_another(named)
        before.append(phase_name)
    assert recipe.head is None or is_left_by_another(recipe.head)


def is_left_by_another(path: str) -> bool:
    if path.startswith("zoo:"):
        return file_named(path).is_file()
    out, train, recipe, checkpoint = path.split("/")
    if (out, train) == ("out", "peers"):  # of `python -m edgeprune.lab.peers`
        peer = load_recipe(ROOT / "lab" / "peers" / "recipes" / "camvid-peer.yaml")
        return recipe in PEERS and Path(checkpoint).stem in peer.phases
    return (
        (out, train) == ("out", "train") and recipe in SHIPPED and Path(checkpoint).stem in load_recipe(recipe).phases
    )


# ------------------------------------------------------------------------------------------------ leaving a drive out


def test_a_drive_is_left_out_of_every_phase_and_of_calibration_and_validates() -> None:
    recipe = load_recipe("street-tiny")
    left = leave_out(recipe, "camvid:0016E5*")
    for name, phase in left.phases.items():
        for mix, before in zip(phase.data, recipe.phases[name].data, strict=True):
            assert mix.exclude == (["0016E5*"] if mix.data == "camvid" else before.exclude)
    assert left.calibration is not None and left.calibration.exclude == ["0016E5*"]
    assert left.validation is not None
    assert (left.validation.split, left.validation.include, left.validation.exclude) == ("train", ["0016E5*"], [])
    assert all(not mix.exclude for phase in recipe.phases.values() for mix in phase.data)  # the recipe is untouched
    held = load_recipe("street-tiny", ["validation.split=train", "validation.hold_out=0.1"])
    whole = leave_out(held, "camvid:0016E5*").validation
    assert whole is not None and whole.hold_out is None  # the whole drive is scored


def test_what_a_study_reports_is_the_drive_that_is_left_out_whatever_chooses() -> None:
    last = load_recipe("street-tiny")
    best = load_recipe("street-tiny", ["validation.split=train", "validation.hold_out=0.1", "validation.keep=best"])
    for recipe in (last, best):
        scored = reported(leave_out(recipe, "camvid:0016E5*"), "camvid:0016E5*")
        assert (scored.data, scored.split, scored.include, scored.exclude) == ("camvid", "train", ["0016E5*"], [])
        assert scored.held_out is None and not scored.chooses
    assert last.validation is not None and best.validation is not None
    assert reported(last, None) == last.validation.model_copy(update={"times": 0})
    with pytest.raises(InputError, match="keep: best chooses by the frames that would be scored.*give --leave-out"):
        reported(best, None)
    best.validation.keep, best.validation.patience = "last", 2
    with pytest.raises(InputError, match="validation: patience chooses by the frames"):
        reported(best, None)
    with pytest.raises(InputError, match="give `validation:`"):
        reported(last.model_copy(update={"validation": None}), None)


@pytest.mark.parametrize("group", ["0016E5*", "camvid:", ":0016E5*"])
def test_a_group_to_leave_out_names_data_and_files(group: str) -> None:
    with pytest.raises(InputError, match=r"expected DATA:GLOB, for example camvid:0016E5\*"):
        leave_out(load_recipe("street-tiny"), group)


def test_a_group_of_data_that_the_recipe_does_not_use_is_refused() -> None:
    with pytest.raises(InputError, match="trains on camvid, street.*camvid"):
        leave_out(load_recipe("street-tiny"), "camvit:0016E5*")


# ------------------------------------------------------------------------------------------------ numbers of a recipe


@pytest.mark.parametrize(
    "setting",
    [
        *(f"phases.dense.lr={value}" for value in ("-1", "0", ".inf", ".nan", "none")),
        *(f"phases.dense.clip={value}" for value in ("-1", "0", ".nan")),
        *(f"phases.dense.augment.{key}={value}" for key in ("flip", "colour", "blur", "noise", "grey")
          for value in (1.5, -0.1, ".nan")),
        *(f"phases.dense.augment.scale=[{value}]" for value in ("0, 1", "-1, 1", "2, 1", "1, 100", ".nan, 1", "1")),
        "phases.dense.weight_decay=-0.1", "phases.dense.weight_decay=.inf", "phases.dense.label_smoothing=1",
        "phases.dense.label_smoothing=-0.1", "phases.dense.batch=0", "phases.dense.batch=1000000", "phases.dense.frames=-1",
        "phases.dense.frames=99999999999999999999", "phases.dense.warmup=1", "phases.dense.warmup=-0.1", "phases.dense.ema=1",
        "phases.dense.ema=-0.1", "phases.dense.drop_path=1", "phases.dense.jaccard=.inf", "phases.dense.distill=-1",
        "phases.dense.policy_lr=.inf", "phases.dense.layer_decay=0", "phases.dense.layer_decay=1.1",
        "phases.dense.class_balance=1.1", "phases.dense.data=[]", "phases.dense.data=[{data: street, share: 0}]",
        "phases.dense.data=[{data: street, share: .inf}]", "seed=-1", "seed=99999999999999999999", "threads=0", "threads=-1",
        "workers=-1", "workers=1000", "checkpoint_seconds=-1", "checkpoint_seconds=.nan", "model.depth=0", "model.depth=1000",
        "model.height=50", "model.height=16", "model.width=1600000", "model.classes=1", "model.classes=256",
        "model.layer_scale=0", "model.layer_scale=.nan", "validation={data: street, frames: 0}",
        "validation={data: street, times: -1}", "calibration={data: street, frames: 2}",
        "calibration={data: street, percentile: 50}", "calibration={data: street, percentile: 100.1}",
        "name=../r", "name=''", "name=/tmp/r", "name=..", "phases={../dense: {kind: dense, data: [{data: street}], frames: 4}}",
    ],
)  # fmt: skip
def test_numbers_and_names_out_of_bounds_are_refused_when_the_recipe_is_read(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    with pytest.raises(InputError, match=setting.partition("=")[0].split(".")[0]) as found:
        load_recipe(path, [setting])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "setting",
    [
        "phases.dense.clip=null", "phases.dense.lr=1.0e-9", "phases.dense.augment.flip=1", "phases.dense.augment.flip=0",
        "phases.dense.augment.scale=[1, 1]", "phases.dense.frames=0", "seed=9223372036854775807", "threads=null",
        "checkpoint_seconds=0", "model.layer_scale=1.0e-5", "calibration={data: street, frames: 8}", "model.classes=255",
        "name=street-tiny_2.1",
    ],
)  # fmt: skip
def test_numbers_at_their_bounds_are_taken(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    load_recipe(path, [setting])


# ------------------------------------------------------------------------------------------------ paths of a recipe


def test_paths_in_a_recipe_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "r.yaml").write_text(
        "name: r\nweights: vit.safetensors\nhead: things.safetensors\n"
        "phases:\n"
        "  dense: {kind: dense, data: [{data: mine.yaml}, {data: street}], frames: 4}\n"
        "  more: {kind: dense, data: [{data: ../sets/mine.yml}], frames: 4, start: dense, "
        "teacher: a/b.safetensors, distill: 1}\n"
        "validation: {data: mine.yaml}\ncalibration: {data: /sets/mine.yaml}\n"
    )
    for name in ("recipes/r.yaml", folder / "r.yaml"):
        beside = Path(name).parent
        recipe = load_recipe(name)
        assert recipe.weights == str(beside / "vit.safetensors") and recipe.head == str(beside / "things.safetensors")
        assert [mix.data for mix in recipe.phases["dense"].data] == [str(beside / "mine.yaml"), "street"]
        more = recipe.phases["more"]
        assert (more.start, more.teacher) == ("dense", str(beside / "a/b.safetensors"))
        assert more.data[0].data == str(beside / "../sets/mine.yml")
        assert recipe.validation is not None and recipe.validation.data == str(beside / "mine.yaml")
        assert recipe.calibration is not None and recipe.calibration.data == "/sets/mine.yaml"
    assert load_recipe("recipes/r.yaml", ["weights=vit.safetensors"]).weights == "vit.safetensors"
    assert load_recipe("recipes/r.yaml", ["weights=zoo:street-tiny/reference"]).weights == "zoo:street-tiny/reference"
    left = leave_out(load_recipe("recipes/r.yaml"), f"{folder / 'mine.yaml'}:a*")
    assert left.phases["dense"].data[0].exclude == ["a*"]


def test_a_checkpoint_of_the_zoo_is_a_start_and_a_teacher(tmp_path: Path) -> None:
    zoo = "zoo:street-tiny/reference"
    recipe = load_recipe(
        "street-short",
        [f"phases.dense.start={zoo}", f"phases.sparse.teacher=[dense, {zoo}]", f"phases.qat.teacher={zoo}"],
    )
    run = PhaseRun(recipe, "dense", tmp_path)
    assert run.start == zoo and run.checkpoint_of(zoo) == ROOT / "zoo" / "street-tiny" / "reference.safetensors"
    check_named(recipe, tmp_path)
    # written as it was typed: a run's recipe and a checkpoint's provenance are read on other machines
    assert recipe.phases["sparse"].model_dump()["teacher"] == ["dense", zoo]
    for key in ("start", "teacher"):
        lacks = load_recipe("street-short", [f"phases.qat.{key}=zoo:street-tiny/nobody", "phases.qat.distill=1"])
        said = f"{key} 'zoo:street-tiny/nobody' is not here.*zoo:street-tiny/qat"
        with pytest.raises(InputError, match=said):
            check_named(lacks, tmp_path)
        with pytest.raises(InputError, match=f"phase qat: {said}"):
            check_recipe(lacks, ["qat"], 1)
        check_recipe(lacks, ["dense"], 1)  # what is not asked for needs nothing


def test_a_path_that_is_relative_to_the_working_folder_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "recipes" / "r.yaml").write_text(RECIPE.replace("street", "mine.yaml"))
    with pytest.raises(InputError, match=r"data: mine.yaml is not in recipes, but .* write \.\./mine.yaml") as found:
        load_recipe("recipes/r.yaml")
    assert "\n" not in str(found.value)


def test_a_recipe_that_is_written_elsewhere_names_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran with paths as they were typed lies in the run's folder, and paths in a recipe are relative to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for name in ("mine.yaml", "vit.safetensors", "teacher.safetensors"):
        (tmp_path / name).touch()
    content = yaml.safe_load(RECIPE) | {"weights": "vit.safetensors", "calibration": {"data": "frames"}}
    dense = content["phases"]["dense"] | {"data": [{"data": "mine.yaml"}, {"data": "street"}], "distill": 1}
    content["phases"] = {"dense": dense | {"teacher": "teacher.safetensors"}}
    content["phases"]["next"] = dense | {"start": "dense", "teacher": ["dense", str(tmp_path / "teacher.safetensors")]}
    recipe = Recipe.model_validate(content)
    written = written_to(recipe, Path("out/run"))
    assert written["weights"] == "../../vit.safetensors" and written["calibration"]["data"] == "../../frames"
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "recipe.yaml").write_text(yaml.safe_dump(written))
    found = load_recipe("out/run/recipe.yaml")

    def files(of: Recipe) -> list[str]:
        teachers = [teacher for phase in of.phases.values() for teacher in phase.teachers]
        named = [mix.data for phase in of.phases.values() for mix in phase.data]
        assert of.weights is not None and of.calibration is not None
        return [normpath(each) for each in (of.weights, of.calibration.data, *named, *teachers)]

    assert files(found) == files(recipe) and found.start_of("next") == "dense"


@pytest.mark.parametrize("name", ["street-short", "street-tiny", "street-tiny-brief", "compare-brief"])
def test_shipped_recipes_are_read_from_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = load_recipe(name)
    monkeypatch.chdir(tmp_path)
    assert load_recipe(name) == here


# ------------------------------------------------------------------------------------------------ names of no file

LONG = "x" * 300  # more than a file's name may have


def test_a_data_set_of_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    content = load_recipe("street-short").model_dump(mode="json")
    content["phases"]["dense"]["data"] = [{"data": LONG}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="unknown data set 'xxx"):
        check_named(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "out")


@pytest.mark.parametrize("key", ["weights", "head", "phases.dense.start", "phases.dense.teacher"])
def test_nor_is_a_checkpoint(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint xxx.*is not there"):
        check_named(load_recipe("street-short", [f"{key}={LONG}.safetensors"]), tmp_path / "out")

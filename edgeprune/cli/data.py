"""`data`: what a data set holds. `lint`: what is wrong with its labels. `show`: pictures. `init`: its YAML."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.owning import own
from edgeprune.cli.options import argument, json_option, option
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import Verbs, verb
from edgeprune.data.datasets import DataSet, FolderSplit, load_data_set
from edgeprune.data.duplicates import FrameHashes, Leak, find_leak
from edgeprune.data.folder import MissingLabels
from edgeprune.data.lint import LabelReport, lint_split
from edgeprune.data.split import folders_of, open_split, spec_of, splits_of, spread, tells_things_apart

logger = logging.getLogger(__name__)

LABEL_COLUMNS = {
    "id": ("id", ""),
    "name": ("class", ""),
    "share": ("share", ".2%"),
    "pixels": ("pixels", ",d"),
    "frames": ("frames", ""),
}
THING_COLUMNS = LABEL_COLUMNS | {"things": ("things", ",d")}  # of labels that have outlines
LEAKS = 0.05  # of val: fewer near frames are those on either side of a cut
MOST_SHOWN = 48  # frames on a sheet


@dataclass(frozen=True, kw_only=True)
class LintOptions:
    data: str = argument()
    split: str | None = option("--split", help="Default: every split that it has.")
    frames: int | None = option("--frames", FRAMES, help="Read so many of each split, evenly spread; default: all.")
    json: bool = json_option()


@verb("lint", LintOptions, ["edgeprune data lint street --frames 16", "edgeprune data lint my-frames/ --split val"])
def lint(options: LintOptions) -> None:
    """Check the labels of DATA (a name, a folder or a YAML file).

    A histogram of ids, ids outside the classes, sizes, unreadable files, in every split; of outlines areas, what leaves the
    image or crosses itself, duplicates and categories; frames of val that are all but in train.
    """
    data_set = load_data_set(options.data)
    if options.split is not None:
        spec_of(data_set, options.split)
    splits = [options.split] if options.split else list(splits_of(data_set))
    hashes = {name: FrameHashes() for name in ("train", "val") if _has_files(data_set, splits, name)}
    reports = {name: lint_split(data_set, name, options.frames, hashes.get(name)) for name in splits}
    leak = find_leak(hashes["val"], hashes["train"]) if len(hashes) == 2 else None
    problems: dict[str, str] = {}  # and the split that each was found in first
    for name, report in reports.items():
        for line in report.problems():
            problems.setdefault(line, name)
    if options.json:
        found = [_as_json(name, report) for name, report in reports.items()]
        show_json({"data": options.data, "splits": found, "val_near_train": leak})
    else:
        show_reports(options.data, reports, problems)
        if leak is not None:
            click.echo(about_leak(leak, data_set))
    if problems:
        first, name = next(iter(problems.items()))
        more = f" (1 of {len(problems)} problems; all stand on standard output)" if len(problems) > 1 else ""
        raise InputError(f"data set {options.data}, {name}: {first}{more}")


def _has_files(data_set: DataSet, splits: list[str], name: str) -> bool:
    """Whether a split is read, and of files: scenes of the street are rendered from seeds that differ."""
    return name in splits and isinstance(splits_of(data_set).get(name), FolderSplit)


def about_leak(leak: Leak, data_set: DataSet) -> str:
    """What there is to say of frames of val that are all but equal to one of train."""
    mine, theirs = leak.example
    line = (
        f"{leak.frames} of {leak.of} val frames are all but equal to a train frame, such as val {mine} and train {theirs} "
        f"({leak.bits} of 256 bits differ)"
    )
    if leak.share <= LEAKS:
        return line
    spec = data_set.val
    divides = isinstance(spec, FolderSplit) and spec.format == "masks" and spec.part == (0.0, 1.0)
    typed = f": `edgeprune data init {data_set.path} --split-by-time 0.8`" if divides else ""
    return f"{line}: neighbours in one video leak, and val flatters; split by time{typed}"


def _as_json(name: str, report: LabelReport) -> dict[str, object]:
    return {
        "split": name,
        "frames": report.frames,
        "of": report.total,
        "classes": report.rows(),
        "problems": report.problems(),
        "warnings": report.warnings,
        "outlines": None if report.outlines is None else report.outlines.as_json(),
    }


def show_reports(data: str, reports: Mapping[str, LabelReport], problems: Mapping[str, str]) -> None:
    """The histogram of each split, and every problem where there are several; `problems`: and the split of each."""
    for name, report in reports.items():
        click.echo(f"{name}: {report.frames} of {report.total} labels read")
        if report.frames:
            show_table(report.rows(), LABEL_COLUMNS if report.outlines is None else THING_COLUMNS)
        for line in [*report.warnings, *(report.outlines.lines() if report.outlines else [])]:
            click.echo(line)
    for line, name in problems.items() if len(problems) > 1 else ():
        click.echo(f"{name}: {line}")
    if not problems:
        odd = any(report.outlines is not None and report.outlines.lines() for report in reports.values())
        what = "nothing that keeps labels from being used was found" if odd else "nothing wrong found"
        click.echo(f"{data}: {what} in {', '.join(reports)}")


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    data: str = argument()
    split: str = option("--split", default="train")
    frames: int = option("--frames", click.IntRange(1, MOST_SHOWN), default=12, help="Evenly spread over the split.")
    out: Path = option("--out", default=Path("out/data.png"), help="The picture, a PNG.")
    json: bool = json_option()


@verb(
    "show", ShowOptions, ["edgeprune data show street", "edgeprune data show my-frames/ --split val --out out/val.png"]
)
def show(options: ShowOptions) -> None:
    """Show frames of DATA with their labels, on one sheet.

    Each class in its colour and by name, what is ignored dark, and the share of each class under it; a line around each thing
    where labels tell things apart, and how many there are.
    """
    from edgeprune.data.sheet import draw_sheet

    if options.out.suffix.lower() != ".png":
        raise InputError(f"--out {options.out}: a sheet is a PNG; give it a name such as {options.out.stem}.png")
    data_set = load_data_set(options.data)
    samples = open_split(data_set, options.split, things=tells_things_apart(data_set, options.split))
    own([options.out], [options.data], among=folders_of(data_set, options.split))
    chosen = [samples[index] for index in spread(len(samples), options.frames)]
    title = f"{data_set.name}, {options.split}: {len(chosen)} of {len(samples):,} frames, {len(data_set.names)} classes"
    sheet = draw_sheet(chosen, data_set, title)
    with write_atomic(options.out, "the sheet") as partial:
        sheet.save(partial, "PNG")
    if options.json:
        show_json(
            {
                "data": options.data,
                "split": options.split,
                "frames": [sample.name for sample in chosen],
                "out": options.out,
            }
        )
    else:
        click.echo(f"wrote {options.out}: {title}")


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    folder: Path = argument()
    out: Path | None = option("--out", help="Default: <the folder's name>.yaml, here; a file that is there stays.")
    layout: str | None = option("--layout", help="What the folder is, where it may be two things.")
    split_by_time: float | None = option(
        "--split-by-time",
        click.FloatRange(0.1, 0.95),
        help="Divide train and val anew: this share of the frames, by name, before val.",
    )
    json: bool = json_option()


@verb(
    "init",
    InitOptions,
    ["edgeprune data init my-frames/", "edgeprune data init my-frames/ --split-by-time 0.8 --out by-time.yaml"],
)
def init(options: InitOptions) -> None:
    """Write the YAML of a FOLDER of images and labels.

    Where they are, which classes they have, and what was guessed, to be corrected by hand.
    """
    from edgeprune.data.layouts import describe, find_own
    from edgeprune.data.layouts.written import split_by_time, yaml_text

    if not options.folder.is_dir():
        raise InputError(f"{options.folder} is no folder; name the one that holds the images and their labels")
    if options.layout is None and (own := find_own(options.folder)):
        raise InputError(f"{own} says what the folder is; use it as it is: --data {own}")
    described = describe(options.folder, options.layout, options.split_by_time)
    path = options.out or Path(f"{described.content['name']}.yaml")
    lists: dict[Path, str] = {}
    if options.split_by_time is not None and "part" not in described.content["train"]:
        described, lists = split_by_time(described, options.split_by_time, path)
    for each in (path, *lists):
        if each.exists() or each.is_symlink():
            raise InputError(f"{each} is there already, and may be yours; give another --out, or delete it")
    with _kept_if_whole(lists):
        for each, text in lists.items():
            _write(each, text)
        frames = {split: _count(described.data_set(), split) for split in described.splits}
        _write(path, yaml_text(described, frames, path))
    written = [str(each) for each in (path, *lists)]
    if options.json:
        about = {"layout": described.layout, "why": described.why, "notes": described.notes}
        show_json({"written": written, "frames": frames} | about)
        return
    click.echo(
        f"wrote {', '.join(written)}: {', '.join(f'{count:,} {split}' for split, count in frames.items())} frames"
    )
    click.echo(f"next: edgeprune data show {path}")


def _count(data_set: DataSet, split: str) -> int:
    """Frames of a split that have labels; which have none is said, for the YAML is where they are left out."""
    try:
        return len(open_split(data_set, split))
    except MissingLabels as error:
        logger.warning(f"{split}: {error}")
        return len(error.rest)


@contextmanager
def _kept_if_whole(lists: Iterable[Path]) -> Iterator[None]:
    """Takes the lists of a YAML away that could not be written: the next try would take them for the user's own."""
    try:
        yield
    except BaseException:
        for each in lists:
            each.unlink(missing_ok=True)
        raise


def _write(path: Path, text: str) -> None:
    with write_atomic(path, "a data set") as partial:
        partial.write_text(text, encoding="utf-8")


data = Verbs(
    "data",
    {"Verbs": {"lint": lint, "show": show, "init": init}},
    help="Look at a data set: its faults, its pictures, its YAML.",
)

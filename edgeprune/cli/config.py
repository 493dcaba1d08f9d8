"""A file of a verb's options: `run --config run.yaml`. Its keys are the options' names, `give_up` for `--give-up`.

Who writes it chooses what runs, as who types a command line does: a meter's program, a function that is called. What is
in it is read as strictly as any file.
"""

import logging
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource
from pydantic import BeforeValidator, create_model

from edgeprune.base.errors import InputError
from edgeprune.base.masking import masked_uri
from edgeprune.base.paths import from_home
from edgeprune.base.reading import Strict, parse, read_yaml
from edgeprune.cli.options import AS_TYPED, TYPED, Typed

logger = logging.getLogger(__name__)

WHAT = "configuration"
NOT_IN_FILES = ("config", "json")  # the option itself, and how a result is shown
# from what a file says of an option, and the file's folder, to what is typed for it
Place = Callable[[str, Path], str]


def key_of(typed: Typed) -> str:
    """How an option is called in a file."""
    assert typed.flag
    return typed.flag.removeprefix("--").replace("-", "_")


def read_config(path: Path, options: type, places: Mapping[str, Place]) -> dict[str, Any]:
    """The options that a file gives, by the names of their fields.

    Args:
        options: the dataclass of the verb's options (`cli/options.py`).
        places: of keys whose text may be a path: what it is once it is seen from the file's folder. Options that are paths
            are taken from there anyway.

    Raises:
        InputError: it can't be read, has an unknown key (the nearest is named), or a value that the option doesn't take.
    """
    hints = get_type_hints(options)
    about = {key_of(each.metadata[TYPED]): each for each in fields(options) if each.name not in NOT_IN_FILES}
    known: Any = {key: (_in_file(hints[each.name], each.metadata[TYPED]) | None, None) for key, each in about.items()}
    spec = create_model("Configuration", __base__=_Written, **known)
    where = f"{WHAT} {path}"
    content = read_yaml(path, WHAT)
    for key in (key for key, each in about.items() if _is_mapping(hints[each.name])):
        _check_names(content, key, where)
    _take_off(content, {key: each.metadata[TYPED] for key, each in about.items()})
    given = parse(spec, content, where).model_dump(exclude_unset=True)
    folder, values = Path(os.path.abspath(path)).parent, {}
    for key, value in given.items():
        field = about[key]
        if value in (
            None,
            "",
            {},
        ):  # `cameras:` with every line below it commented out would be a run of the default one
            raise InputError(f"{where}: {key} is empty; give it a value or leave it out")
        if isinstance(value, dict):
            place = places.get(key, lambda text, folder: text)
            values[field.name] = {name: text and place(text, folder) for name, text in value.items()}
            continue
        if field.metadata[TYPED].kind is AS_TYPED:
            value = os.path.join(folder, from_home(value))  # a last slash stays
        elif isinstance(value, str | int) and str in (*get_args(hints[field.name]), hints[field.name]):
            value = places[key](str(value), folder) if key in places else str(value)
        if Path in get_args(hints[field.name]):
            value = folder / from_home(str(value))
        values[field.name] = _converted(field.metadata[TYPED], value, f"{where}: {key}")
    return values


class _Written(Strict, strict=True):
    """What a file holds."""


def _is_mapping(hint: Any) -> bool:
    return any(get_origin(each) is Mapping for each in get_args(hint))


def _check_names(content: Any, key: str, where: str) -> None:
    """Refuses what can't be names and their values, before pydantic says so in its own words."""
    named = content.get(key) if isinstance(content, dict) else None
    if named is None:
        return
    if not isinstance(named, dict):
        raise InputError(f"{where}: {key}: expected a name for each, such as front: ..., found {type(named).__name__}")
    for name, value in named.items():
        if not isinstance(name, str):  # a number, yes and no, a date
            raise InputError(
                f"{where}: {key}: {name!s:.80} is no text in YAML; write it in quotes, '{name!s:.80}', or call it cam-1"
            )
        if value is None:
            named[name] = ""  # it is empty, which is said with what to give


def _take_off(content: Any, about: Mapping[str, Typed]) -> None:
    """`pipeline: off` is what was meant, of whose `off` YAML makes false."""
    for key, typed in about.items():
        if isinstance(content, dict) and content.get(key) is False and "off" in getattr(typed.kind, "choices", ()):
            content[key] = "off"


def _in_file(hint: Any, typed: Typed) -> Any:
    """The type of a value in YAML: `camera: 0` and `view: 8080` are numbers there, `cameras` is a mapping."""
    if _is_mapping(hint):
        return dict[str, Annotated[str, BeforeValidator(_as_typed)]]
    kinds = {Path} if typed.kind is AS_TYPED else set(get_args(hint) or (hint,))
    if bool in kinds:
        return bool
    if float in kinds:
        return float
    if int in kinds:
        return int
    return str if Path in kinds else Annotated[str, BeforeValidator(_as_typed)]


def _as_typed(value: Any) -> Any:
    """A number as it would be typed: `camera: 0`, `view: 8080`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _converted(typed: Typed, value: Any, where: str) -> Any:
    if typed.kind is None:
        return value
    try:
        return typed.kind.convert(value, None, None)
    except click.BadParameter as error:
        message = error.format_message().removeprefix("Invalid value: ").removesuffix(".")
        raise InputError(f"{where}: {message}") from None


def take_config(options: Callable[[], type], places: Mapping[str, Place]) -> Callable[[click.Context, Any], None]:
    """What `--config` does before any other option is read: what the file gives stands where nothing is typed.

    Args:
        options: gives the dataclass of the verb, which has this very option.
        places: see `read_config`.
    """

    def take(context: click.Context, path: Path | None) -> None:
        if path is not None:
            context.default_map = read_config(path, options(), places)

    return take


@contextmanager
def naming_config(path: Path | None, options: type, names: Collection[str]) -> Iterator[None]:
    """Bad input that an option of the file causes is said with the file's name and the option's key: where the message names
    such options, those, else the first key that is a word of it. `names`: of the fields that the file gave."""
    try:
        yield
    except InputError as error:
        said = re.sub(r"\([^()]*\)", "", str(error))  # in brackets are reasons and advice
        given = [each.metadata[TYPED] for each in fields(options) if each.name in names]
        flags = {typed.flag: key_of(typed) for typed in given}
        keys = [flags[flag] for flag in dict.fromkeys(re.findall(r"--[a-z][a-z-]*", said)) if flag in flags]
        if "--" not in said:
            keys = [word for word in re.findall(r"[a-z_]+", said) if word in flags.values()][:1]
        if path is None or not keys:
            raise
        named = "" if str(error).startswith(keys[0]) else f"{', '.join(keys)}: "
        raise InputError(f"{WHAT} {path}: {named}{error}") from error


def names_from_file() -> list[str]:
    """The fields that the file of this command line gave, and that are not typed beside it."""
    context = click.get_current_context()
    return [name for name in context.params if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP]


def warn_of_others(path: Path, cameras: Iterable[str]) -> None:
    """Says where other users may read a password of a camera, or write what is to run."""
    mode = path.stat().st_mode
    if any(masked_uri(camera) != camera for camera in cameras) and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning(f"{path} holds a camera's password, and others may read it; type: chmod 600 {path}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        logger.warning(f"others may write to {path}, which says what runs; type: chmod go-w {path}")

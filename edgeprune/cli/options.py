"""The options of a verb, declared once: a frozen dataclass, each field with its flag, its range and its help.

    @dataclass(frozen=True, kw_only=True)
    class RunOptions:
        frames: int | None = option("--frames", FRAMES, help="Stop after so many frames.")

A field's annotation says the rest: `Path` is a path, `bool` a flag without a value, a tuple an option that may be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from edgeprune.base.errors import InputError
from edgeprune.cli.defaults import MODEL, TARGET, bundle_folder
from edgeprune.cli.ranges import THREADS
from edgeprune.model.zoo import ZOO, find_in_zoo


class _Checkpoint(click.Path):
    """A path, or `zoo:NAME/FILE` for one that edgeprune ships: where it is installed nobody knows its folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).startswith(ZOO):
            return find_in_zoo(str(value), param.name if param is not None and param.name else self.name)
        return super().convert(value, param, ctx)


PATH = click.Path(path_type=Path)
CHECKPOINT = _Checkpoint(path_type=Path)
AS_TYPED = click.Path()  # a path whose last slash says something: `rows/` is a folder
TYPED = "typed"  # the key of a field's metadata


@dataclass(frozen=True)
class Typed:
    """How an option is typed.

    Attributes:
        flag: `--frames`; None: an argument, which goes by its place. Of a key that a file alone may have (`cli/config.py`) it
            is what it would be.
        kind: range or choices of its value.
        help, metavar: as in click.
        needs: the field of an option that this one says something about.
        first: what is done with its value before any other option is read.
        in_file: whether it can't be typed, but stand in a file alone.
    """

    flag: str | None
    kind: click.ParamType | None
    help: str | None = None
    metavar: str | None = None
    needs: str | None = None
    first: Callable[[click.Context, Any], None] | None = None
    in_file: bool = False


def option(flag: str, kind: click.ParamType | None = None, *, default: Any = None, **about: Any) -> Any:
    """A field that is typed as an option; `default=MISSING` where it must be. `about`: see `Typed`."""
    return field(default=default, metadata={TYPED: Typed(flag, kind, **about)})


def argument(kind: click.ParamType | None = None, *, default: Any = MISSING, metavar: str | None = None) -> Any:
    """A field that is typed by its place. `metavar`: what a usage line calls it; None: as the field."""
    return field(default=default, metadata={TYPED: Typed(None, kind, metavar=metavar)})


def key_of_file(flag: str) -> Any:
    """A field that a file of options may give, and nobody types: a mapping."""
    return field(default=None, metadata={TYPED: Typed(flag, click.UNPROCESSED, in_file=True)})


class _KeyOfFile(click.Parameter):
    """What has no place on a command line: its value is that of the file."""

    param_type_name = "key of a file"

    def _parse_decls(self, decls: Sequence[str], expose_value: bool) -> tuple[str, list[str], list[str]]:
        return decls[0], [], []

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """No word of the line is its."""


def bundle_option(target: str = TARGET) -> Any:
    """The bundle that a verb takes; left out, the one that `open_default` opens for that target."""
    return option("--bundle", help=f"Default: {bundle_folder(MODEL, target)}.")


def cache_option() -> Any:
    """Where scenes are kept once they are rendered."""
    return option("--cache", help="Where rendered street scenes are kept (1 MB each).")


def threads_option() -> Any:
    """Threads of an engine's operators."""
    return option("--threads", THREADS, help="Default: the target's.")


def json_option() -> Any:
    """One object in place of tables."""
    return option("--json", default=False, help="Print one JSON object and nothing else on stdout.")


def parameters(options: type) -> list[click.Parameter]:
    """click's parameters of a dataclass of options, in the order of its fields."""
    hints = get_type_hints(options)
    return [_parameter(each, hints[each.name]) for each in fields(options)]


def _parameter(each: "Field[Any]", annotation: Any) -> click.Parameter:
    typed: Typed = each.metadata[TYPED]
    if typed.in_file:
        return _KeyOfFile([each.name], type=typed.kind)
    about: dict[str, Any] = {"type": typed.kind or (PATH if Path in (annotation, *get_args(annotation)) else None)}
    about |= {"required": True} if each.default is MISSING else {"default": each.default}
    repeats = get_origin(annotation) is tuple
    if typed.flag is None:
        return click.Argument([each.name], nargs=-1 if repeats else 1, metavar=typed.metavar, **about)
    about |= {
        "help": typed.help,
        "metavar": typed.metavar,
        "show_default": about.get("default") not in (None, False, ()),
    }
    if annotation is bool:
        about["is_flag"] = True
    if repeats:
        about["multiple"] = True
    if first := typed.first:

        def take(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
            first(context, value)
            return value

        about |= {"is_eager": True, "callback": take}
    return click.Option([each.name, typed.flag], **about)


def check_pairs(options: type, context: click.Context) -> None:
    """Refuses an option that another one, typed or left out, leaves without a meaning, and one value of an option that may
    be repeated twice: none is accepted and ignored.

    Raises:
        InputError: names them.
    """
    flags: Mapping[str, Typed] = {each.name: each.metadata[TYPED] for each in fields(options)}
    for name, typed in flags.items():
        if not is_typed(name, context):
            continue
        values = context.params[name]
        if isinstance(values, tuple) and len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise _twice(f"{typed.flag} {twice}" if typed.flag else str(twice))
        if typed.needs and not is_typed(typed.needs, context):
            raise InputError(f"{typed.flag} is of {flags[typed.needs].flag}; give that too, or leave it out")


def refuse_twice(order: Sequence[click.Parameter]) -> None:
    """Refuses an option that is typed twice and may not be: click would take the last, and ignore the first.

    Args:
        order: of what was typed, as click's parser gives it.

    Raises:
        InputError: names it.
    """
    for each in order:
        if isinstance(each, click.Option) and not each.multiple and not each.is_flag and order.count(each) > 1:
            raise _twice(each.opts[-1])


def _twice(shown: str) -> InputError:
    return InputError(f"{shown} is there twice; leave one of the two out")


def refuse_typed(reason: str, *names: str) -> None:
    """Refuses options that what was given leaves without a meaning.

    Args:
        reason: what leaves them so.
        names: their fields.

    Raises:
        InputError: one of them was typed.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and is_typed(parameter.name, context):
            raise InputError(f"{reason}; leave {parameter.opts[-1]} out")


def is_typed(name: str, context: click.Context) -> bool:
    """Whether a field's option stands on the command line, or in a file that stands there (`cli/config.py`)."""
    return context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)

"""Verbs and the sections that they stand in: what a help shows, and what is answered to a name of an earlier version."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click

from edgeprune.base.errors import InputError
from edgeprune.cli.options import check_pairs, parameters, refuse_twice

Options = TypeVar("Options")


class Verb(click.Command):
    """A command whose help ends with examples.

    Attributes:
        options: the dataclass that its options are read into.
        examples: command lines as they are typed.
        moved: options of earlier versions, and what is typed in their place.
    """

    def __init__(
        self, name: str, options: type, examples: Sequence[str], moved: Mapping[str, str], **about: Any
    ) -> None:
        super().__init__(name, params=parameters(options), **about)
        self.options, self.examples, self.moved = options, tuple(examples), moved

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        try:
            refuse_twice(self.make_parser(context).parse_args(list(words))[2])
            left = super().parse_args(context, words)
        except click.NoSuchOption as error:
            if error.option_name not in self.moved:
                raise
            typed = f"{context.command_path.partition(' ')[2]} {error.option_name}"
            raise InputError(f"{typed} is `{self.moved[error.option_name]}` now") from None
        check_pairs(self.options, context)
        return left

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:  # never wrapped: a line is copied whole
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def verb(
    name: str, options: type[Options], examples: Sequence[str], moved: Mapping[str, str] | None = None
) -> Callable[[Callable[[Options], None]], Verb]:
    """Makes a verb of a function that takes its options; the function's docstring is the help."""

    def make(function: Callable[[Options], None]) -> Verb:
        def begin(**values: Any) -> None:
            function(options(**values))

        return Verb(name, options, examples, moved or {}, callback=begin, help=function.__doc__)

    return make


class Verbs(click.Group):
    """Verbs in sections; where none is typed, the help.

    Attributes:
        sections: under each heading the verbs by name: a command, or `module:attribute` of one, which is imported when it
            is asked for.
        renamed: verbs of earlier versions, and what is typed in their place.
    """

    def __init__(
        self,
        name: str,
        sections: Mapping[str, Mapping[str, click.Command | str]],
        renamed: Mapping[str, str] | None = None,
        begin: Callable[[], None] | None = None,
        **about: Any,
    ) -> None:
        def begin_or_help() -> None:
            context = click.get_current_context()
            if context.invoked_subcommand is None:
                click.echo(context.get_help())
            elif begin:
                begin()

        super().__init__(name, invoke_without_command=True, callback=begin_or_help, **about)
        self.sections, self.renamed = sections, renamed or {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if new := self.renamed.get(args[0]):
            raise InputError(f"{args[0]} is `{new}` now")
        return super().resolve_command(ctx, args)

    @property
    def names(self) -> list[str]:
        """The verbs, in the order of the help."""
        return [name for section in self.sections.values() for name in section]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self.names

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:
        found = next((section[cmd_name] for section in self.sections.values() if cmd_name in section), None)
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            command = getattr(import_module(module), attribute)
            assert isinstance(command, click.Command) and command.name == cmd_name
            return command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.names))
        for title, section in self.sections.items():
            verbs = {name: self.get_command(ctx, name) for name in section}
            rows = [
                (f"{name:{width}}", each.get_short_help_str(formatter.width - 6 - width))
                for name, each in verbs.items()
                if each
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

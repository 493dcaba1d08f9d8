"""The command line as it is typed: its verbs, and whether a line of it is one. `python -m tests.cli.typed` counts."""

import shlex
from collections.abc import Iterator

import click

from edgeprune.cli.commands import edgeprune
from edgeprune.cli.verb import Verb, Verbs


def verbs(group: Verbs = edgeprune, before: str = "") -> Iterator[tuple[str, Verb]]:
    """Every verb, by what is typed for it: `run`, `data lint`."""
    for name in group.names:
        command = group.get_command(None, name)
        if isinstance(command, Verbs):
            yield from verbs(command, f"{before}{name} ")
        else:
            assert isinstance(command, Verb)
            yield f"{before}{name}", command


def options_of(verb: Verb) -> list[click.Option]:
    return [each for each in verb.params if isinstance(each, click.Option)]


def parse(line: str) -> click.Context:
    """The context of `edgeprune VERB ...`, with every option read and its partners looked at; nothing is begun."""
    program, *words = shlex.split(line)
    assert program == "edgeprune"
    command: click.Command = edgeprune
    context = click.Context(command, info_name=program)
    while isinstance(command, Verbs):
        name, *words = words
        found = command.get_command(context, name)
        assert found
        command = found
        context = command.make_context(name, words, parent=context) if isinstance(command, Verb) else context
    return context


if __name__ == "__main__":
    found = dict(verbs())
    counts = {name: len(options_of(verb)) for name, verb in found.items()}
    longest = max(counts, key=lambda name: counts[name])
    print(f"{len(found)} verbs, {sum(counts.values())} options, longest verb {longest}: {counts[longest]}")

"""YAML that others wrote: plain values alone, no key twice, and bounds on what a small file may grow to.

PyYAML's safe loader builds no objects, and nothing more is safe about it: nine lines of aliases grow to gigabytes, deep
nesting ends the interpreter's recursion, a scalar that does not fit its tag raises whatever the conversion raised, and
`1:1:1:...` is an integer to the base 60 that takes minutes.
"""

from typing import Any

import yaml

from edgeprune.base.errors import InputError
from edgeprune.base.strict_json import INT_LIMIT, MOST_DEPTH, MOST_VALUES, check_text

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it: ten times as fast
TAG = "tag:yaml.org,2002:"
NUMBERS = tuple(TAG + kind for kind in ("int", "float", "timestamp", "bool"))
NUMBER_CHARACTERS = 64  # of a scalar that is converted


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader; what it can't build is a YAML error with a line, and a key stands once in its mapping."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS and len(node.value) > NUMBER_CHARACTERS:
            raise _error(node, f"a number of {len(node.value):,} characters")
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                check_text(value)
        except yaml.YAMLError:
            raise
        except Exception as error:  # each conversion raises what it likes: KeyError, ValueError, AttributeError ...
            kind = node.tag.removeprefix(TAG)
            shown = repr(node.value)[:80] if isinstance(node, yaml.ScalarNode) else "a collection"
            raise _error(node, str(error) if kind == "str" else f"{shown} is no {kind}") from None
        if isinstance(value, int) and abs(value) >= INT_LIMIT:
            raise _error(node, f"{str(node.value)[:40]} is too large a number")
        return value

    def construct_document(self, node: yaml.Node) -> Any:
        _check_keys(node)  # before merges (`<<`) put keys of other mappings into this one
        return super().construct_document(node)


def _check_keys(root: yaml.Node) -> None:
    done: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        if id(node) in done or isinstance(node, yaml.ScalarNode):
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "a key that is no word; write keys as words")
            if (key.tag, key.value) in seen:
                raise _error(key, f"key {key.value[:80]!r} is there twice")
            seen.add((key.tag, key.value))
            left.append(value)


def _error(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text of one document.

    Args:
        where: how a message begins: "recipe a.yaml".

    Raises:
        InputError: no YAML, a value that is none of its kind, a key twice, an alias to what it is part of, control
            characters, a number beyond 64 bits, or more than anybody writes by hand (depth, values, aliases counted as
            what they stand for).
    """
    try:
        _check_growth(text)
        return yaml.load(text, _Loader)  # a subclass of the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise InputError(f"{where} is not valid YAML{line}: {problem}") from None
    except (ValueError, RecursionError) as error:  # a mark's line is made of the text, which may be anything
        raise InputError(f"{where} is not valid YAML: {error}") from None


def _check_growth(text: str) -> None:
    """Counts what the document will hold, aliases as what they stand for, from its events and without building it."""
    size: dict[str, int] = {}  # of anchors that are whole
    open_: list[tuple[str | None, int]] = []  # collections that are not: anchor, values before it
    values = 0

    def refuse(event: Any, problem: str) -> None:
        raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    event: Any
    for event in yaml.parse(text, _Base):
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_):
                refuse(event, f"*{str(event.anchor)[:80]} stands within what it names")
            values += size.get(str(event.anchor), 1)  # one that is not known is refused when it is built
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor is not None:
                size[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                size[anchor] = values - before
        if values > MOST_VALUES:
            refuse(event, f"more than {MOST_VALUES:,} values, aliases counted as what they stand for")
        if len(open_) > MOST_DEPTH:
            refuse(event, f"deeper than {MOST_DEPTH} levels")

"""YAML of other people: one line for each way in which it can be none, and none that takes time or memory."""

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.strict_json import MOST_VALUES
from edgeprune.base.strict_yaml import parse_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k0: 1, k1: 1}\n" + "\n".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 10)}]}}"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)

REFUSED = {
    "a: !!bool foo": "line 1, column 4: 'foo' is no bool",
    "a: !!int foo": "'foo' is no int",
    "a: !!float foo": "'foo' is no float",
    "a: !!timestamp foo": "'foo' is no timestamp",
    "a: 2024-13-45": "'2024-13-45' is no timestamp",
    "b: 1\na: !!binary é": "line 2, column 4: failed to convert",
    "a: &a [*a]": r"\*a stands within what it names",
    "a: &a {<<: *a}": r"\*a stands within what it names",
    "a: *b": "undefined alias",
    "a: 1\na: 2": "line 2, column 1: key 'a' is there twice",
    "? [a]\n: 2": "a key that is no word",
    '"a\\0b": 1': "has a control character",
    'a: "\\e[31m"': "has a control character",
    "a: " + "9" * 5000: "a number of 5,000 characters",
    "a: " + "9" * 30: "is too large a number",
    "a: 0x" + "f" * 40: "is too large a number",
    "a: " + "1:" * 200_000 + "1": "a number of 400,001 characters",
    "[" * 5000: "deeper than 32 levels",
    "- " * 5000: "deeper than 32 levels",
    "{a: " * 5000: "deeper than 32 levels",
    BOMB: f"more than {MOST_VALUES:,} values, aliases counted as what they stand for",
    MERGED: "more than",
    "[" + "x," * MOST_VALUES + "]": "more than",
    "!!python/object/apply:os.system [id]": "could not determine a constructor",
    "--- 1\n--- 2": "another document",
    "a: [": "not valid YAML at line",
    "a: \0": "not valid YAML",
    "%YAML 9.9\n---\na": "incompatible YAML document",
}  # fmt: skip


@pytest.mark.parametrize("text", list(REFUSED), ids=[text[:12] for text in REFUSED])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=REFUSED[text]) as refused:
        parse_yaml(text, "recipe a.yaml")
    assert str(refused.value).startswith("recipe a.yaml is not valid YAML") and "\n" not in str(refused.value)


def test_what_people_write_is_read() -> None:
    text = """
    shared: &shared {lr: 1.0e-3, lit: true, none: null, day: 2024-02-03}
    phases:
      a: {<<: *shared, lr: 2}
      b: {inner: &inner {<<: *shared, lr: 3}}
    again: {<<: *inner}
    12: "tab\\tand\\nbreak"
    """
    content = parse_yaml(text, "recipe a.yaml")
    assert content["phases"]["a"]["lr"] == 2 and content["phases"]["a"]["lit"] is True
    assert content["again"]["lr"] == 3 and content[12] == "tab\tand\nbreak"
    assert parse_yaml("", "recipe a.yaml") is None

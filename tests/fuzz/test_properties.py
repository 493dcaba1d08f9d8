"""Properties that hold for every text and every tree, tried on those that hypothesis thinks of."""

import json
import math
from typing import Any

import pytest
import yaml

from edgeprune.base.errors import InputError, one_line
from edgeprune.base.reading import parse
from edgeprune.base.strict_json import parse_json
from edgeprune.base.strict_yaml import parse_yaml
from edgeprune.bundle.target import Target
from edgeprune.train.recipe import Recipe

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis: pip install 'edgeprune[test]'")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

FEW = settings(max_examples=50, deadline=None, database=None, derandomize=True)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
)


def plain(tree: Any) -> bool:
    """Whether a tree holds nothing that the readers refuse by intent."""
    if isinstance(tree, dict):
        return all(plain(key) and plain(value) for key, value in tree.items())
    if isinstance(tree, list):
        return all(map(plain, tree))
    if isinstance(tree, float):
        return math.isfinite(tree)
    if isinstance(tree, str):
        return tree.isprintable()
    return tree is None or abs(tree) < 10**18


@FEW
@given(TREES)
def test_json_comes_back_or_is_refused(tree: Any) -> None:
    text = json.dumps(tree)
    if plain(tree):
        assert parse_json(text, "it") == tree
    else:
        refuses(lambda: parse_json(text, "it"))


@FEW
@given(TREES)
def test_yaml_comes_back_or_is_refused(tree: Any) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)
    if plain(tree):
        assert parse_yaml(text, "it") == tree
    else:
        refuses(lambda: parse_yaml(text, "it"))


def refuses(read: Any) -> None:
    """Whatever it raises is one line of ours."""
    try:
        read()
    except InputError as error:
        assert one_line(str(error)).isprintable()


@FEW
@given(st.text(alphabet="ab01:-?[]{}&*!|>#%@,'\"\n\t \\<~.=xe_+\0é", max_size=60))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    refuses(lambda: parse_yaml(text, "it"))
    refuses(lambda: parse_json(text, "it"))


@FEW
@given(
    st.dictionaries(
        st.sampled_from([*Target.model_fields, *Recipe.model_fields]) | st.text(max_size=5), TREES, max_size=6
    )
)
def test_any_mapping_is_a_spec_or_refused(content: Any) -> None:
    for spec in (Target, Recipe):
        refuses(lambda spec=spec: parse(spec, content, "it"))


@given(st.text(max_size=40))
@FEW
def test_a_message_is_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()

"""JSON of other people, as strict as the standard."""

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.strict_json import MOST_VALUES, parse_json


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": [1, -Infinity]}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "is too large a number"),
        ('{"a": 9223372036854775808}', "is too large a number"),
        ('{"a": 1, "a": 2}', "key 'a' is there twice"),
        ("[" * 100_000, "deeper than 32 levels"),
        ("[" * 40 + "]" * 40, "deeper than 32 levels"),
        ("[" + "0," * MOST_VALUES + "0]", "more than 50,000 values"),
        ('{"a": "\\u001b[31m"}', "control character"),
        ('{"\\ud800": 1}', "control character"),
        ('{"a": "\x9b31m"}', "control character"),
        ('{"a": ', "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"^manifest is damaged \(.*{words}.*\); copy it again$"):
        parse_json(text, "manifest")


def test_what_is_read() -> None:
    assert parse_json('{"a": [1, -2.5e-3, null, true, "é\\n\\t"]}', "manifest") == {
        "a": [1, -2.5e-3, None, True, "é\n\t"]
    }

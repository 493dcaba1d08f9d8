"""A large JSON file of arrays, read record by record: what is kept in memory is one record, however long the file is.

Bytes are read as Latin-1, in which a character is a byte, so that places in the text are places in the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import BLOCK, open_regular

MOST_BYTES = 64 << 20  # of one record: a crowd's run lengths take some hundred kilobytes
SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


def records(path: Path) -> Iterator[tuple[str, int, int, Any]]:
    """Of a file that holds an object: for each value of its keys, and where that is an array for each of its items, the key,
    the offset and the length in bytes, and the value.

    Raises:
        InputError: it can't be read, or is no such JSON.
    """
    with open_regular(path, "annotations") as (file, _):
        window = _Window(file, path)
        window.expect("{")
        while window.peek() != "}":
            key = str(window.value()[2])
            window.expect(":")
            if window.peek() == "[":
                yield from ((key, *item) for item in _items(window))
            else:
                yield (key, *window.value())
            if window.peek() == ",":
                window.expect(",")


def _items(window: "_Window") -> Iterator[tuple[int, int, Any]]:
    window.expect("[")
    while window.peek() != "]":
        yield window.value()
        if window.peek() == ",":
            window.expect(",")
    window.expect("]")


def has_keys(path: Path, wanted: set[str]) -> bool:
    """Whether a file is JSON with these keys at its top; it is read as far as it takes to say so."""
    found: set[str] = set()
    try:
        return any(found.add(key) or found >= wanted for key, *_ in records(path))  # type: ignore[func-returns-value]
    except InputError:
        return False


def parse_record(raw: bytes) -> Any:
    """A record anew, from its bytes: `records` reads letters beyond ASCII as Latin-1."""
    return json.loads(raw.decode("utf-8"))


class _Window:
    """The part of a file that is being parsed."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._start, self._at, self._ended = "", 0, 0, False

    def _refill(self) -> None:
        left = self._text[self._at :]
        if len(left) > MOST_BYTES:
            raise self._damaged(f"a record of more than {MOST_BYTES:,} bytes")
        more = self._file.read(max(BLOCK, len(left)))
        self._ended = not more
        self._start += self._at
        self._text, self._at = left + more.decode("latin-1"), 0

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                raise self._damaged("it ends too early")
            self._refill()

    def expect(self, character: str) -> None:
        if (found := self.peek()) != character:
            raise self._damaged(f"{found!r} in place of {character!r}")
        self._at += 1

    def value(self) -> tuple[int, int, Any]:
        """Offset, length and content of the value that begins here."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number may go on
                    offset, length = self._start + self._at, end - self._at
                    self._at = end
                    return offset, length, found
            except RecursionError:
                raise self._damaged("too deep") from None
            except ValueError as error:
                if self._ended:
                    raise self._damaged(str(error).partition(":")[0]) from None
            self._refill()

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"annotations {self._path} can't be read as JSON ({reason}, near byte {self._start + self._at:,}); "
            "export them again"
        )

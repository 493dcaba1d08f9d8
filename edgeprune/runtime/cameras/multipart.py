"""The parts of an endless multipart body, as cameras send their JPEGs (multipart/x-mixed-replace; RFC 2046, 5.1).

Cameras disagree on the boundary: with or without the two dashes in the header, in quotation marks, another one in the body.
So it is taken of the body itself, where every part begins with it.
"""

import time
from collections.abc import Iterator
from typing import Protocol

MOST_BYTES = 64 << 20  # of a part: a JPEG of 64 megapixels has fewer
MOST_HEADERS = 64
LENGTH_DIGITS = 12
LINE_BYTES = 8192
BLOCK = 1 << 16
PART_S = 10.0  # that a part may take to come


class BadPart(ValueError):
    """The body is no multipart, or a part of it is larger than anything that is read."""


class Bytes(Protocol):
    """What parts are read from; both return as soon as there is something."""

    def readline(self, limit: int, /) -> bytes: ...

    def read1(self, limit: int, /) -> bytes: ...


def parts_of(stream: Bytes) -> Iterator[bytes]:
    """The content of each part; ends where the body announces its end.

    Raises:
        BadPart: see there.
        EOFError: the body breaks off.
        TimeoutError: a part takes longer than PART_S.
    """
    body = _Body(stream)
    while body.next_part():
        length = body.length()
        yield body.until_delimiter() if length is None else body.exactly(length)


class _Body:
    """A body that is being read."""

    def __init__(self, stream: Bytes):
        self._stream = stream
        self._delimiter = b""
        self._pushed_back = b""
        self._end_s = 0.0

    def _in_time(self, data: bytes) -> bytes:
        if not data:
            raise EOFError
        if time.monotonic() > self._end_s:
            raise TimeoutError(f"a part took longer than {PART_S:g} s")
        return data

    def _line(self) -> bytes:
        line, self._pushed_back = self._pushed_back, b""
        return line or self._in_time(self._stream.readline(LINE_BYTES))

    def next_part(self) -> bool:
        """Reads up to the headers of the next part; False at the announced end."""
        self._end_s = time.monotonic() + PART_S
        skipped = 0  # empty lines, and what a wrong length has left
        while not (line := self._line()).startswith(self._delimiter or b"--"):
            skipped += len(line)
            if skipped > (MOST_BYTES if self._delimiter else LINE_BYTES):
                raise BadPart("no boundary between parts comes")
        self._delimiter = self._delimiter or line.rstrip()
        return line.rstrip() != self._delimiter + b"--"

    def length(self) -> int | None:
        """What the headers of a part, which are read, say of its length."""
        length = None
        for _ in range(MOST_HEADERS):
            line = self._line().strip()
            if not line:
                return length
            key, _, value = line.partition(b":")
            if key.strip().lower() != b"content-length":
                continue
            if not value.strip().isdigit() or len(value) > LENGTH_DIGITS:
                raise BadPart("the length of a part is no number")
            length = int(value)
            if length > MOST_BYTES:
                raise BadPart(f"a part of {length:,} bytes, at most {MOST_BYTES:,} are read")
        raise BadPart(f"a part has more than {MOST_HEADERS} headers")

    def exactly(self, length: int) -> bytes:
        """So many bytes."""
        data = bytearray()
        while len(data) < length:
            data += self._in_time(self._stream.read1(min(BLOCK, length - len(data))))
        return bytes(data)

    def until_delimiter(self) -> bytes:
        """What stands before the next delimiter, without the line break, which belongs to that."""
        data = bytearray()
        at_line = True
        while True:
            line = self._line()
            if at_line and line.startswith(self._delimiter):
                self._pushed_back = line
                return bytes(data.removesuffix(b"\n").removesuffix(b"\r"))
            data += line
            at_line = line.endswith(b"\n")
            if len(data) > MOST_BYTES:
                raise BadPart(f"a part of more than {MOST_BYTES:,} bytes")

"""A row of SOURCES: a kind of camera."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from edgeprune.runtime.cameras.decoding import AS_STORED, Decoding
from edgeprune.runtime.cameras.source import FrameSource


class Wanted(NamedTuple):
    """How frames are wanted.

    Attributes:
        realtime: a file's at its own frame rate, as of a live source.
        loop: a file's again at its end, for ever.
        within: (height, width) of the input that they are for: a source that scales for free may scale down to it.
        spread: so many of a file's or a folder's alone, evenly over the whole of it, or all where it has no more; what is live
            gives all.
        decoding: by what compressed video is decoded, and whether its frames come scaled to `within`.
    """

    realtime: bool = False
    loop: bool = False
    within: tuple[int, int] | None = None
    spread: int | None = None
    decoding: Decoding = AS_STORED


AS_IT_COMES = Wanted()


class CameraKind(NamedTuple):
    """A kind of camera.

    Attributes:
        open: its frames, of what was typed. Raises InputError where it isn't there, can't be read, or has an unknown option.
        typed: what to type for one, as `run --help` and errors say it.
        scheme: whether its URIs begin with the key of the row and `://`.
        endless: whether its frames are live and without an end anyway: `realtime` and `loop` are refused.
        options: the names of those of its URI's query: their values are shown where a URI is printed, others are hidden.
        files: the files and folders that it reads, which no output may write over, or into.
        decodes: whether its frames are compressed video, whose decoder can be chosen.
    """

    open: Callable[[str, Wanted], FrameSource]
    typed: str
    scheme: bool = False
    endless: bool = False
    options: Collection[str] = ()
    files: Callable[[str], list[Path]] = lambda uri: []
    decodes: bool = False

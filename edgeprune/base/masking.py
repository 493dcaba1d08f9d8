"""Secrets in camera URIs, hidden wherever a URI is printed: messages, records, JSON.

Cameras take a password, a token or a PIN under any name and in many places, and people forget a slash or the host. So no
list says what is secret; a short one says what is not. Shown are the scheme, host, port and path, and parameters of
HARMLESS names; hidden is all between the scheme and the last `@`, every other value, and what stands behind a `#`. What
can be read in two ways is hidden: a host too many is a nuisance, a password too many a leak. (A token that is a part of
the path looks like any path, and is shown.)
"""

import re
from collections.abc import Iterable
from itertools import pairwise

HIDDEN = "***"

# parameters whose values are shown: what a network camera's streams are told apart by, and what `show_values_of` adds
HARMLESS = {
    "channel", "subtype", "stream", "streamtype", "transport", "unicast", "profile", "resolution", "codec",
}  # fmt: skip
_PLAIN = re.compile(r"[\d.,x-]{1,18}|[A-Za-z]{1,8}|\d\.sdp|h26[45]")  # a value that may be one of theirs
_NAME = re.compile(r"[A-Za-z]{1,20}")  # the key of a parameter; a token in base64 ends in `=` too

# `rtsp://`, and what people type in its place: `rtsp:/`, `rtsp:\\`, and of a scheme that is known `rtsp//`, `rtsp:`
_SCHEME = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{1,30}:[/\\]+"
    r"|(?:rtsps?|rtspt|rtspu|rtmps?|https?|srt|udp|tcp|rtp|csi|synthetic)(?::|[/\\]{2,}))",
    re.IGNORECASE,
)
_COLON = re.compile(r":|%3A", re.IGNORECASE)
# a host and a port; `camera:8000` may be a user and a PIN
_HOST = re.compile(r"\[[^\]]*\](?::\d{1,5})?|(?:localhost|[^:]*\.[^:]*):\d{1,5}|[^:]*:8?554", re.IGNORECASE)
_HOST_OR_USER = re.compile(r"(?P<name>[^:]*:)(?:\d{1,5}|\*{3})")
# `?key=`, `&key=`, and in a path `/user=me_password=secret_channel=1` of many DVRs
_PARAMETER = re.compile(r"(?:^|[?&;#/\\_])(?P<key>[A-Za-z][A-Za-z0-9.-]*)(?:=|%3D)", re.IGNORECASE)
_PARAMETER_OR_MARK = re.compile(rf"[?#]|{_PARAMETER.pattern}", re.IGNORECASE)
_WORD = re.compile(r"[^\s'\"<>]+")
_BEHIND = ":;,.!?)"  # what a sentence puts behind a word
_ACCOUNT = re.compile(r"[\w.-]+@(?:[\w.-]+|\[[\da-f:.]+\])", re.IGNORECASE)  # of a device that is deployed to


def show_values_of(parameters: Iterable[str]) -> None:
    """From now on the values of these are shown, too: of the options of our own cameras, which are numbers."""
    HARMLESS.update(parameters)


def masked(text: str, words: Iterable[str] = ()) -> str:
    """A text with URIs in it, with `***` in place of what may be secret in them.

    Args:
        words: what was typed. A URI among them is found wherever the text repeats it, whatever characters it has; other
            URIs end at a space or a quotation mark.
    """
    for word in sorted(words, key=len, reverse=True):
        hidden = masked_uri(word)
        if hidden != word and not _ACCOUNT.fullmatch(word):
            for repeated in (word, repr(word)[1:-1]):
                text = text.replace(repeated, hidden)
    return _WORD.sub(lambda found: _masked_word(found[0]), text)


def _masked_word(written: str) -> str:
    """A word of a text, masked: it is hardly a URI where it has no scheme, and no password before an `@`."""
    word = written.rstrip(_BEHIND)
    return _hidden_in(word) + written[len(word) :]


def _hidden_in(word: str) -> str:
    scheme = _SCHEME.search(word)
    if scheme and "@" not in word[: scheme.start()]:
        return word[: scheme.start()] + masked_uri(word[scheme.start() :])
    before, at, _ = word.rpartition("@")
    return masked_uri(word) if at and _COLON.search(before) else word


def masked_uri(uri: str) -> str:
    """A URI, or what was typed for one, with `***` in place of what may be secret in it.

    rtsp://me:se/cr@t@host/a?pin=1&channel=2 -> rtsp://***@host/a?pin=***&channel=2
    """
    found = _SCHEME.match(uri)
    scheme = found[0] if found else ""
    before, at, rest = uri[len(scheme) :].rpartition("@")
    if at:  # of the user, or of a parameter's value, which goes on behind it
        return scheme + HIDDEN + ("" if _PARAMETER_OR_MARK.search(before) else at + _parameters(rest))
    if scheme:
        return scheme + _without_user(rest)
    path, mark, query = rest.partition("?")  # it may be a file that is not there: `#` and `=` are parts of names
    return path + (_parameters(mark + query) if mark else "")


def _without_user(rest: str) -> str:
    """What follows the scheme where no `@` does: a host, or a user and a password whose host was forgotten."""
    authority = re.split(r"[/\\?#]", rest, maxsplit=1)[0]
    if not _COLON.search(authority) or _HOST.fullmatch(authority):
        return _parameters(rest)
    either = _HOST_OR_USER.fullmatch(authority)
    return either["name"] + HIDDEN if either else HIDDEN


def _parameters(rest: str) -> str:
    """Host, path, query and fragment: from the first parameter, `?` or `#` on, only what is harmless is shown."""
    rest, hash_, _ = rest.partition("#")
    mark = re.search(r"\?", rest)
    cuts = sorted({found.start() for found in (*_PARAMETER.finditer(rest), mark) if found})
    pieces = [rest[at:until] for at, until in pairwise([*cuts, len(rest)])]
    shown = rest[: cuts[0]] + "".join(map(_parameter, pieces)) if cuts else rest
    return shown + (hash_ + HIDDEN if hash_ else "")


def _parameter(piece: str) -> str:
    """`&key=value`, or what stands behind a `?` without a key."""
    found = _PARAMETER.match(piece)
    value = piece[found.end() :] if found else ""
    if not found or not _NAME.fullmatch(found["key"]) or not value.strip("="):
        mark = re.match(r"\W|_|", piece)
        return (mark[0] if mark else "") + (HIDDEN if len(piece) > 1 else "")
    harmless = found["key"].lower() in HARMLESS and _PLAIN.fullmatch(value)
    return found[0] + (value if harmless else HIDDEN)

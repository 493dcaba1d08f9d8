"""Secrets in camera URIs, hidden wherever a URI is printed: messages, records, JSON.

Cameras take a password in many places: `rtsp://user:password@host/`, with `/` and `@` in it where people don't escape
them, `?user=..&password=..`, and `/user=.._password=.._channel=1` of many DVRs. What can be read in two ways is hidden:
a name too many is a nuisance, a password too many a leak.
"""

import re

HIDDEN = "***"

_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{1,2})"
_URI = re.compile(_SCHEME + r"(?P<rest>[^\s'\"<>]+)")  # in a text
_ALONE = re.compile(_SCHEME + r"(?P<rest>.+)", re.DOTALL)
# a port and a path: what follows is hardly a password
_PORT = re.compile(r"[1-9]\d{1,4}(?:[/?#]|$)")
_HOST = re.compile(r"\[|[^/?#]*[.:]|localhost(?:[/:?#]|$)")
# password, passwd, passwort, pass, passphrase, pwd, pubPasswd, loginpas, psw, pw, p; token, auth, key, secret, ...
_KEYS = (
    r"(?:[A-Za-z]*(?:passw\w{0,3}|passphrase|pass|pwd|psw|secret|token|apikey|api_key|auth\w*|signature|credentials?)"
    r"|login_?pas|pw|key|sig|p)"
)
# up to the next parameter (`&channel=`, `_channel=`, `;stream=`), or to the end
_PARAMETER = re.compile(
    rf"(?P<key>(?<![A-Za-z0-9]){_KEYS}(?:=|%3D))(?P<value>.+?)(?=[&;][A-Za-z][A-Za-z0-9.-]*=|_[A-Za-z]+=|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def masked(text: str) -> str:
    """A text with URIs in it, with `***` in place of every password, token and key of theirs."""
    return _URI.sub(_hide, text)


def masked_uri(uri: str) -> str:
    """The same of a URI alone, which may have spaces and quotes in it.

    rtsp://me:se/cr@t@host/a -> rtsp://me:***@host/a
    """
    found = _ALONE.match(uri)
    return _hide(found) if found else uri


def _hide(uri: "re.Match[str]") -> str:
    return uri["scheme"] + _parameters(_user_info(uri["rest"]))


def _user_info(rest: str) -> str:
    """What follows the scheme, `user:password@` with the password hidden."""
    before, at, host = rest.rpartition("@")
    user, colon, password = before.partition(":")
    if not at or not colon or rest.startswith("["):
        return rest
    path_may_hold_it = _PORT.match(password) or re.search(r"[/?#]", user)
    if path_may_hold_it and not _HOST.match(host):
        return rest
    return f"{user}:{HIDDEN}@{host}"


def _parameters(rest: str) -> str:
    return _PARAMETER.sub(lambda parameter: parameter["key"] + HIDDEN, rest)

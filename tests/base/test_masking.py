"""No secret of any form that cameras take, or that people type in its place, is ever printed."""

import itertools

import pytest

from edgeprune.base.masking import masked, masked_uri
from edgeprune.runtime.cameras import csi, synthetic

SECRETS = [
    "Xq7secret", "Xq7/cr@t", "Xq7@x", "Xq7/y", "Xq7:Xq8", "Xq7?#Xq8", "Xq7%40Xq8", "Xq7&Xq8", "1/Xq7", "Xq7=Xq8", "Xq7_Xq8",
]  # fmt: skip
HOSTS = ["host", "10.0.0.7", "cam.local:554", "[fe80::1]:554", "localhost"]
USER_INFO = [
    "rtsp:me:{secret}@{host}",
    "rtsp//me:{secret}@{host}/live",
    "rtsp:/me:{secret}@{host}",
    "rtsp:\\\\me:{secret}@{host}\\live",
    "rstp://me:{secret}@{host}",
    "me:{secret}@{host}/live",
    "me%3A{secret}@{host}",
    "rtsp://{secret}@{host}/live",
    "rtsp://{secret}:@{host}/live",
    "synthetic://me:{secret}@{host}",
    "rtsp://me:{secret}@{host}/live",
    "rtsps://me:{secret}@{host}",
    "https://me@corp.com:{secret}@{host}/a.m3u8",
]
PARAMETERS = [
    "rtsp://{host}/a?user=me&password={secret}",
    "rtsp://{host}/a?user=me&password={secret}&channel=1",
    "rtsp://{host}/user=me_password={secret}_channel=1_stream=0.sdp?real_stream",
    "rtsp://{host}/user=me&password={secret}&channel=1&stream=0.sdp?",
    "http://{host}/video.cgi?usr=me&pwd={secret}",
    "http://{host}/videostream.cgi?loginuse=me&loginpas={secret}",
    "http://{host}/mjpg?u=me&p={secret}&rate=5",
    "https://{host}/live?access_token={secret}",
    "https://{host}/live?auth={secret}&x=1",
    "srt://{host}?mode=caller&passphrase={secret}",
    "rtmp://{host}/app/stream?authToken={secret}",
    "rtsp://{host}/a?PASSWD={secret}",
    "rtsp://{host}/a?pin={secret}",
    "rtsp://{host}/a?code={secret}&channel=1",
    "rtsp://{host}/a?psd={secret}",
    "rtsp://{host}/kennwort={secret}_channel=1",
    "rtsp://{host}/a;jsessionid={secret}",
    "rtsp://{host}/a?{secret}",
    "rtsp://{host}/a#{secret}",
    "synthetic://{host}?seed=3#{secret}",
    "me:x@{host}?seed={secret}",
]  # fmt: skip


def leaks(shown: str) -> bool:
    return "Xq7" in shown or "Xq8" in shown


@pytest.mark.parametrize("form", USER_INFO + PARAMETERS)
def test_no_form_shows_a_password(form: str) -> None:
    for secret, host in itertools.product(SECRETS, HOSTS):
        uri = form.format(secret=secret, host=host)
        for text in (uri, f"cannot open {uri}: refused", f"cannot open '{uri}'; check it", f'{{"uri": "{uri}"}}'):
            shown = masked(text)
            assert not leaks(shown), (text, shown)
            in_two_ways = set(secret) & set("@?#=/")
            assert (in_two_ways or host.split(":")[0] in shown) and masked(shown) == shown, (text, shown)
    for secret in (*SECRETS, "Xq7 Xq8", "Xq7'Xq8", 'Xq7"Xq8', "Xq7<Xq8>"):  # of a URI alone, whatever is in it
        assert not leaks(masked_uri(form.format(secret=secret, host="host"))), (form, secret)


HOSTLESS = [
    "rtsp://me:{secret}",
    "rtsp:me:{secret}",
    "rtsp://me:{secret}/live",
    "rtsp:\\\\me%3A{secret}",
    "csi://me:{secret}",
]


@pytest.mark.parametrize("form", HOSTLESS)
def test_a_host_that_was_forgotten(form: str) -> None:
    for secret in (*SECRETS, "12345"):
        uri = form.format(secret=secret)
        for shown in (masked_uri(uri), masked(f"cannot open {uri}: refused")):
            assert not leaks(shown) and "12345" not in shown and masked(shown) == shown, shown


def test_what_was_typed_is_found_whatever_is_in_it() -> None:
    """Where click repeats it, between brackets and quotes of its own."""
    for typed in ("me:Xq7 'x\" (@host", "rtsp://me:Xq7'<\\@host", "Xq7@host/live?pin=Xq8", "host/live?pin=Xq7 Xq8"):
        for text in (f"unexpected extra argument ({typed})", f"{typed!r} is not a valid integer; see --help"):
            shown = masked(text, ["run", typed])
            assert not leaks(shown) and "host" in shown, shown
    assert masked("cannot reach me@device", ["deploy", "me@device"]) == "cannot reach me@device"


def test_the_rest_stays_readable() -> None:
    assert masked("rtsp://me:s/e@c@10.0.0.7:554/a?b=c") == "rtsp://***@10.0.0.7:554/a?b=***"
    assert masked("cannot open rtsp://h/a?pin=1: refused") == "cannot open rtsp://h/a?pin=***: refused"
    dvr = "rtsp://h/user=me_password=s_channel=1_stream=0.sdp?real_stream"
    assert masked(dvr) == "rtsp://h/user=***_password=***_channel=1_stream=0.sdp?***"
    assert masked("rtsp:/me:secret@host/a") == "rtsp:/***@host/a"  # a slash too few is no reason to print it
    assert masked("rtsp://camera:8000/a") == "rtsp://camera:***"  # a port, or a user and a PIN
    assert masked_uri("me@home/film.mp4") == "***@home/film.mp4"  # a file that isn't there, or a token
    options = "&".join(f"{key}={option.most or 10**17}" for key, option in (csi.OPTIONS | synthetic.OPTIONS).items())
    assert masked(f"synthetic://street?{options}") == f"synthetic://street?{options}"


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera.local:8000/a",
        "rtsp://camera:8554/a",
        "rtsp://[fe80::1]:554/a",
        "rtsp://camera/a?channel=1&subtype=0",
        "synthetic://street?seed=3&height=64",
        "csi://0?width=1280&flip=2",
        "frame 20  21.3 fps: 18.1 ms",
        "street.mp4 is cut off or damaged: 20 frames; copy it",
        "type 0, /dev/video0, a video file, rtsp://..., csi://0 or synthetic://street?seed=1",
        "C:\\films\\a#1.mp4",
        "optim.lr=-1 is too small; did you mean 'lr'?",
    ],
)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert masked(text, [text]) == text
    assert masked_uri(text) == text

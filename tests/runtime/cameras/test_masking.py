"""No password of any form that cameras take is ever printed."""

import itertools

import pytest

from edgeprune.runtime.cameras.masking import masked, masked_uri

SECRETS = [
    "Xq7secret", "Xq7/cr@t", "Xq7@x", "Xq7/y", "Xq7:Xq8", "Xq7?#Xq8", "Xq7%40Xq8", "Xq7&Xq8", "1/Xq7", "Xq7=Xq8", "Xq7_Xq8",
]  # fmt: skip
HOSTS = ["host", "10.0.0.7", "cam.local:554", "[fe80::1]:554", "localhost"]
USER_INFO = [
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
            assert host.split(":")[0] in shown and masked(shown) == shown
    for secret in (*SECRETS, "Xq7 Xq8", "Xq7'Xq8", 'Xq7"Xq8', "Xq7<Xq8>"):  # of a URI alone, whatever is in it
        assert not leaks(masked_uri(form.format(secret=secret, host="host"))), (form, secret)


def test_the_rest_stays_readable() -> None:
    assert masked("rtsp://me:se:cret@host/a") == "rtsp://me:***@host/a"
    assert masked("rtsp://me:s/e@c@10.0.0.7:554/a?b=c") == "rtsp://me:***@10.0.0.7:554/a?b=c"
    assert masked("rtsp://h/user=me_password=s_channel=1.sdp") == "rtsp://h/user=me_password=***_channel=1.sdp"
    assert masked("rtsp:/me:secret@host/a") == "rtsp:/me:***@host/a"  # a slash too few is no reason to print it


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://host:554/a@b",
        "rtsp://me@host/a",
        "rtsp://[fe80::1]:554/a@b",
        "synthetic://street?seed=3&height=64",
        "csi://0?width=1280&flip=2",
        "frame 20  21.3 fps: 18.1 ms",
        "street.mp4 is cut off or damaged: 20 frames; copy it",
        "rtsp://host/monkey=1",
    ],
)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert masked(text) == text
    assert masked_uri(text) == text

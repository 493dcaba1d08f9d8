"""Who gets an answer, asked over a real connection."""

import pytest

from tests.runtime.page.conftest import TOKEN, Serve, until

PATHS = ("/", "/page.js", "/page.css", "/icon.svg", "/stats", "/metrics", "/healthz", "/snapshot.jpg", "/stream.mjpg")


def test_the_token_by_address_cookie_and_header(serve: Serve) -> None:
    served = serve(TOKEN)
    served.publish(1)
    cookie = f"edgeprune_{served.port}"
    for path in (*PATHS, "/no-such-page"):
        answer = served.ask(path)
        assert answer.status == 401 and answer.headers["www-authenticate"] == 'Bearer realm="edgeprune"'
        assert answer.text == "open the address that the run printed, with its ?token=\n"
        assert "set-cookie" not in answer.headers
    entry = served.ask(f"/?token={TOKEN}")
    assert entry.status == 200
    assert entry.headers["set-cookie"].startswith(f"{cookie}={TOKEN}; ")
    assert entry.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    known = {"Cookie": f"other=1; {cookie}={TOKEN}"}
    for path in PATHS[:-1]:
        assert served.ask(path, headers=known).status == 200
        assert served.ask(path, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert "set-cookie" not in served.ask("/", headers=known).headers
    assert served.ask("/", headers={**known, "Host": "robot.local"}).status == 200  # the token says enough


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer é"},
        {"Cookie": f"token={TOKEN}"},
        {"Cookie": f"edgeprune={TOKEN}"},
        {"X-Token": TOKEN},
    ],
)
def test_what_is_no_token(serve: Serve, headers: dict[str, str]) -> None:
    served = serve(TOKEN)
    assert served.ask("/stats", headers=headers).status == 401
    for query in ("token=", f"token={TOKEN[:-1]}", f"token={TOKEN}%00", f"Token={TOKEN}", "token=%ff"):
        assert served.ask(f"/stats?{query}", headers=headers).status == 401


def test_on_this_machine_it_answers_to_the_names_of_this_machine(serve: Serve) -> None:
    served = serve()
    for host in ("localhost", f"localhost:{served.port}", "127.0.0.1:9", "[::1]:80", "LOCALHOST"):
        assert served.ask("/stats", headers={"Host": host}).status == 200
    for host in ("evil.example", f"localhost.evil.example:{served.port}", "127.0.0.1.evil.example", "", "0.0.0.0"):
        answer = served.ask("/stats", headers={"Host": host})
        assert answer.status == 421 and answer.text == "this page answers to localhost and 127.0.0.1 alone\n"


def test_it_is_no_part_of_another_page(serve: Serve) -> None:
    served = serve()
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert served.ask("/stream.mjpg", headers=headers).status == 403
    assert served.ask("/", headers=headers | {"Sec-Fetch-Mode": "navigate"}).status == 200  # a link to it
    assert served.ask("/stats", headers={"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_nothing_can_be_changed(serve: Serve, method: str) -> None:
    answer = serve().ask("/", method)
    assert (answer.status, answer.headers["allow"], answer.headers["connection"]) == (405, "GET, HEAD", "close")


def test_bounds_of_a_request(serve: Serve) -> None:
    served = serve()
    assert served.ask(f"/?{'x' * 1020}").status == 200
    assert served.ask(f"/?{'x' * 1024}").status == 414
    assert served.ask("/", headers={"Content-Length": "5"}).status == 413
    assert served.ask("/", headers={"Transfer-Encoding": "chunked"}).status == 413
    with served.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_every_answer_keeps_strangers_out(serve: Serve) -> None:
    served = serve()
    for path in ("/", "/stats", "/no-such-page"):
        headers = served.ask(path).headers
        policy = headers["content-security-policy"]
        assert (
            policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers and "server" not in headers


def test_a_flaw_of_ours_is_an_answer_and_a_line(serve: Serve, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    monkeypatch.setattr(served.page.pictures[""], "newest", lambda tokens: 1 / 0)
    answer = served.ask("/snapshot.jpg")
    assert (answer.status, answer.text) == (500, "the page failed; the run goes on\n")
    until(lambda: said)  # after the answer
    assert said == ["live page: ZeroDivisionError in the answer to '/snapshot.jpg': division by zero"]
    assert served.ask("/healthz").status == 503

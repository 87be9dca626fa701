"""The server of the live page: who may ask, for what, and what is never told."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from tests.reporting.fixture import HUB_SECRET, SECRET, build_run, write
from tests.running import running
from yonder.errors import StorageError
from yonder.watching.live import Live
from yonder.watching.server import Server, frame


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = build_run(tmp_path_factory.mktemp("runs") / "one", steps=30)
    write(folder / "secret.txt", "only here")
    with running(Server(Live([folder]))) as found:
        yield found


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_it_is_bound_to_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_frame_runs_its_own_script_only(server: Server) -> None:
    response, body = ask(server, "/")
    policy = response.headers["Content-Security-Policy"]
    assert response.status == 200 and b"<script>" in body
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    assert policy.count("'sha256-") == 2


def test_the_page_is_that_of_the_report(server: Server) -> None:
    response, body = ask(server, "/page?version=anything")
    assert response.status == 200 and response.headers["Content-Encoding"] is None
    assert b"Arithmetic from a judge" in body and b"script-src &#39;sha256-" in body
    assert "frame-ancestors 'self'" in response.headers["Content-Security-Policy"]
    packed, data = ask(server, "/page", Accept_Encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip" and gzip.decompress(data) == body
    _, twin = ask(server, "/report.json")
    assert json.loads(twin)["runs"][0]["label"] == "one"
    for secret in (SECRET, HUB_SECRET):
        assert secret.encode() not in body + twin


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/page/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/recipe.yaml",
        "/page/",
    ],
)
def test_no_file_is_served(server: Server, path: str) -> None:
    response, body = ask(server, path)
    assert response.status == 404 and body == b"there is no such page\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_only_get(server: Server, method: str) -> None:
    response, body = ask(server, "/page", method)
    assert response.status == 405 and response.headers["Allow"] == "GET" and len(body) < 20


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:1"}, 200),
        ({"Host": "LocalHost:9999"}, 200),  # a forwarded port
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "evil.example"}, 403),  # a name that was made to point here: DNS rebinding
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": ""}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"}, 403),  # a page at another port
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 200),  # a link that was followed
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}, 200),
    ],
)
def test_who_may_ask(server: Server, headers: dict[str, str], status: int) -> None:
    for path in ("/", "/page", "/status", "/report.json"):
        response, body = ask(server, path, **headers)
        assert response.status == status
        assert (status == 200) == (len(body) > 80 or (path == "/status" and b"version" in body))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_before_there_is_a_run(tmp_path: Path) -> None:
    with running(Server(Live([tmp_path / "later"], every_s=0.0))) as server:
        status = json.loads(ask(server, "/status")[1])
        assert status == {"version": "", "state": "waiting", "line": f"waiting for a run in {tmp_path / 'later'}"}
        assert ask(server, "/page")[0].status == 404
        build_run(tmp_path / "later", steps=6)
        status = json.loads(ask(server, "/status")[1])
        assert status["version"] and status["state"] == "done"
        assert b"Arithmetic from a judge" in ask(server, "/page")[1]


def test_a_port_that_is_taken_is_one_sentence(server: Server) -> None:
    with pytest.raises(StorageError, match=rf"port {server.server_port} of 127.0.0.1 cannot be used \(.*--port"):
        Server(server.live, server.server_port)


def test_many_readers_make_one_page(tmp_path: Path) -> None:
    live = Live([build_run(tmp_path / "one", steps=6)])
    made: list[object] = []
    threads = [threading.Thread(target=lambda: made.append(live.made())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 8 and len({id(page) for page in made}) == 1


def test_the_policy_names_what_the_frame_holds() -> None:
    html, policy = frame()
    assert "/* script */" not in html and "/* style */" not in html and "http" not in policy

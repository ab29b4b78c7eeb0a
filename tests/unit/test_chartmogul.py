"""The requests to ChartMogul, against the stand-in and against servers that misbehave."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from urllib3.util.ssltransport import SSLTransport

from attribute_courier.config import Secret
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault, SandboxProcess
from attribute_courier.worker.chartmogul import (
    MAX_BODY,
    USER_AGENT,
    Answer,
    ChartMogul,
    NoAnswer,
    _Deadline,
)

from ..waiting import wait_until

ADA = "ada@example.com"
PLAN: dict[str, Any] = {"type": "String", "key": "plan", "value": "pro"}
EXAMPLE: list[dict[str, Any]] = [
    {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"},
    {"type": "Integer", "key": "age", "value": 8},
]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def client_of(url: str, *, timeout_s: float = 5, key: str = DEFAULT_API_KEY) -> ChartMogul:
    return ChartMogul(url, Secret(key), timeout_s=timeout_s)


def answer_of(found: Answer | NoAnswer) -> Answer:
    assert isinstance(found, Answer), found
    return found


def no_answer_of(found: Answer | NoAnswer) -> NoAnswer:
    assert isinstance(found, NoAnswer), found
    return found


class Server:
    """A server on loopback that treats each connection as it is told to."""

    def __init__(
        self, serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
    ) -> None:
        self.connections = 0
        self.heads: list[str] = []
        self._serve = serve
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stopped = False
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}/v1"

    def request(self, connection: socket.socket) -> bytes:
        """One request, whole; empty when the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65_536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        length = 0
        for line in head.decode().lower().splitlines():
            if line.startswith("content-length:"):
                length = int(line.split(":")[1])
        while len(body) < length:
            body += connection.recv(65_536)
        return body or b"-"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is None:
                self._serve(connection)
            else:
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    self._serve(secured)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(10)


@contextlib.contextmanager
def serving(
    serve: Callable[[Server, socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    server: Server
    with Server(lambda connection: serve(server, connection), context) as server:
        yield server


def well_behaved(server: Server, connection: socket.socket) -> None:
    while server.request(connection):
        connection.sendall(OK)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class TestWhatIsSent:
    def test_is_the_references_example_word_for_word(self, stand_in: SandboxProcess) -> None:
        answer = answer_of(client_of(stand_in.url).add_attributes(ADA, EXAMPLE))
        assert answer.status == 200
        entry = json.loads(answer.body)["entries"][0]
        assert entry["attributes"]["custom"] == {"channel": "Facebook", "age": 8}
        (post,) = stand_in.requests()
        assert post["method"] == "POST"
        assert post["path"] == "/v1/customers/attributes/custom"
        assert (post["email"], post["custom"]) == (ADA, EXAMPLE)
        assert stand_in.customers(ADA)[0]["sources"] == {"channel": "integration", "age": "API"}

    def test_is_json_with_the_key_as_user_name_and_an_empty_password(self) -> None:
        bodies: list[bytes] = []

        def serve(server: Server, connection: socket.socket) -> None:
            bodies.append(server.request(connection))
            connection.sendall(OK)

        with serving(serve) as server:
            client_of(server.url, key="key-of-ada").add_attributes("größe@example.com", [PLAN])
        assert json.loads(bodies[0]) == {"email": "größe@example.com", "custom": [PLAN]}
        headers = dict(line.split(": ", 1) for line in server.heads[0].split("\r\n")[1:])
        assert headers["Content-Type"] == "application/json"
        assert headers["Accept"] == "application/json"
        assert headers["User-Agent"] == USER_AGENT
        assert USER_AGENT.startswith("attribute-courier/")
        scheme, _, credentials = headers["Authorization"].partition(" ")
        assert (scheme, base64.b64decode(credentials)) == ("Basic", b"key-of-ada:")

    @pytest.mark.parametrize("with_associated_emails", [True, False])
    def test_says_whether_associated_emails_match_too(self, with_associated_emails: bool) -> None:
        bodies: list[bytes] = []

        def serve(server: Server, connection: socket.socket) -> None:
            bodies.append(server.request(connection))
            connection.sendall(OK)

        with serving(serve) as server:
            ChartMogul(
                server.url,
                Secret("key"),
                timeout_s=5,
                with_associated_emails=with_associated_emails,
            ).add_attributes(ADA, [PLAN])
        expected: dict[str, Any] = {"email": ADA, "custom": [PLAN]}
        if with_associated_emails:
            expected["with_associated_emails"] = True
        assert json.loads(bodies[0]) == expected

    def test_keeps_every_digit_and_character(self, stand_in: SandboxProcess) -> None:
        custom: list[dict[str, Any]] = [
            {"type": "Integer", "key": "big", "value": 2**80 + 1},
            {"type": "String", "key": "emoji", "value": "😀\u2028é"},
            {"type": "Decimal", "key": "pi", "value": 3.141592653589793},
        ]
        assert answer_of(client_of(stand_in.url).add_attributes(ADA, custom)).status == 200
        assert stand_in.requests()[0]["custom"] == custom

    def test_a_ping_asks_whether_the_key_is_valid(self, stand_in: SandboxProcess) -> None:
        answer = answer_of(client_of(stand_in.url).ping())
        assert (answer.status, json.loads(answer.body)) == (200, {"data": "pong!"})
        assert answer_of(client_of(stand_in.url, key="another").ping()).status == 401
        assert [(each["method"], each["path"]) for each in stand_in.requests()] == [
            ("GET", "/v1/ping")
        ] * 2


class TestWhatComesBack:
    @pytest.mark.parametrize("status", [200, 204, 400, 401, 404, 418, 422, 429, 500, 503, 524, 599])
    def test_is_an_answer_whatever_its_status(self, stand_in: SandboxProcess, status: int) -> None:
        stand_in.configure(faults=[Fault(kind="status", status=status)])
        answer = answer_of(client_of(stand_in.url).add_attributes(ADA, [PLAN]))
        assert answer.status == status
        assert bool(answer.body) is (status != 204)
        assert answer.retry_after_s is None
        assert len(stand_in.requests()) == 1, "nothing below tries again"

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_says_how_long_to_wait(self, stand_in: SandboxProcess, form: str) -> None:
        stand_in.configure(
            retry_after=form, retry_after_s=7, faults=[Fault(kind="status", status=429)]
        )
        answer = answer_of(client_of(stand_in.url).ping())
        assert answer.retry_after_s is not None
        assert 5 < answer.retry_after_s <= 7

    @pytest.mark.parametrize("body", ["html", "empty"])
    def test_may_have_any_body(self, stand_in: SandboxProcess, body: str) -> None:
        stand_in.configure(faults=[{"kind": "status", "status": 502, "body": body}])
        answer = answer_of(client_of(stand_in.url).ping())
        assert (b"<html>" in answer.body) is (body == "html")

    def test_is_read_up_to_a_mebibyte(self, stand_in: SandboxProcess) -> None:
        fault = Fault(kind="status", status=400, body="huge", body_bytes=3_000_000, count=1)
        stand_in.configure(faults=[fault])
        client = client_of(stand_in.url)
        assert len(answer_of(client.ping()).body) == MAX_BODY
        assert answer_of(client.ping()).status == 200, "and the next one is not the rest of it"

    def test_is_read_up_to_a_mebibyte_where_it_never_ends(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

        with serving(serve) as server:
            answer = answer_of(client_of(server.url, timeout_s=30).ping())
        assert answer.body == b"x" * MAX_BODY

    def test_is_read_whole_where_it_is_shorter(self, stand_in: SandboxProcess) -> None:
        stand_in.configure(faults=[Fault(kind="status", body="huge", body_bytes=MAX_BODY - 1)])
        assert len(answer_of(client_of(stand_in.url).ping()).body) == MAX_BODY - 1

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_is_a_redirect_that_is_not_followed(self, status: int) -> None:
        """The key goes to no other host."""
        with serving(well_behaved) as elsewhere:

            def serve(server: Server, connection: socket.socket) -> None:
                server.request(connection)
                location = f"Location: {elsewhere.url}/ping\r\n"
                connection.sendall(
                    f"HTTP/1.1 {status} Moved\r\n{location}Content-Length: 0\r\n\r\n".encode()
                )

            with serving(serve) as server:
                answer = answer_of(client_of(server.url).add_attributes(ADA, [PLAN]))
        assert answer.status == status
        assert server.connections == 1
        assert elsewhere.connections == 0

    def test_is_a_redirect_of_the_stand_in_that_is_not_followed(
        self, stand_in: SandboxProcess
    ) -> None:
        stand_in.configure(faults=[Fault(kind="redirect")])
        assert answer_of(client_of(stand_in.url).add_attributes(ADA, [PLAN])).status == 302
        assert len(stand_in.requests()) == 1


class TestNoAnswer:
    @pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
    def test_a_dropped_connection_may_have_done_its_work(
        self, stand_in: SandboxProcess, kind: str
    ) -> None:
        stand_in.configure(faults=[{"kind": kind, "count": 1}])
        client = client_of(stand_in.url)
        found = no_answer_of(client.add_attributes(ADA, [PLAN]))
        assert found == NoAnswer(reason="the connection failed", sent=True)
        applied = stand_in.customers(ADA)[0]["attributes"]["custom"]
        assert applied == ({"plan": "pro"} if kind == "drop_after" else {})
        assert len(stand_in.requests()) == 1, "it is not sent again from down here"
        assert answer_of(client.ping()).status == 200

    @pytest.mark.parametrize("kind", ["slow_headers", "slow_body"])
    def test_bytes_that_drip_in_do_not_hold_a_request_past_its_deadline(
        self, stand_in: SandboxProcess, kind: str
    ) -> None:
        stand_in.configure(faults=[{"kind": kind, "seconds": 60, "count": 1}])
        client = client_of(stand_in.url, timeout_s=1)
        found = no_answer_of(client.add_attributes(ADA, [PLAN]))
        assert found == NoAnswer(reason="no answer within 1 s", sent=True)
        wait_until(lambda: isinstance(client.ping(), Answer), what="the client goes on")

    def test_a_body_without_a_length_that_is_cut_is_not_taken_for_whole(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}")
            server.request(connection)  # until the client goes

        with serving(serve) as server:
            found = no_answer_of(client_of(server.url, timeout_s=1).ping())
        assert found.sent

    def test_a_server_that_says_nothing(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            while server.request(connection):
                pass

        with serving(serve) as server:
            found = no_answer_of(client_of(server.url, timeout_s=1).ping())
        assert found == NoAnswer(reason="no answer within 1 s", sent=True)

    def test_a_refused_connection_sends_nothing(self) -> None:
        found = no_answer_of(client_of(f"http://127.0.0.1:{closed_port()}/v1").ping())
        assert found == NoAnswer(reason="the connection failed", sent=False)

    def test_a_connection_that_is_never_taken_sends_nothing(self) -> None:
        """Its backlog is full."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(8):
                knock = stack.enter_context(socket.socket())
                knock.setblocking(False)
                knock.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            found = no_answer_of(client_of(url, timeout_s=1).ping())
        assert not found.sent
        assert found.reason in ("could not connect in time", "no answer within 1 s")

    def test_a_host_that_does_not_exist_sends_nothing(self) -> None:
        found = no_answer_of(client_of("http://nowhere.invalid/v1", timeout_s=2).ping())
        assert not found.sent

    @pytest.mark.parametrize(
        "reply",
        [
            b"not http at all\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"",
        ],
        ids=[
            "no http",
            "no status",
            "too short",
            "no chunk",
            "half a chunk",
            "no gzip",
            "200 headers",
            "a header of 100,000 bytes",
            "nothing",
        ],
    )
    def test_an_answer_that_is_none_may_have_done_its_work(self, reply: bytes) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(reply)

        with serving(serve) as server:
            found = no_answer_of(client_of(server.url).add_attributes(ADA, [PLAN]))
        assert found.sent
        assert server.connections == 1
        assert "127.0.0.1" not in found.reason, "reasons are shown"

    def test_what_is_sent_while_nobody_reads_ends_with_the_deadline(self) -> None:
        stop = threading.Event()

        def serve(server: Server, connection: socket.socket) -> None:
            stop.wait(30)

        custom = [{"type": "String", "key": f"k{n}", "value": "x" * 250} for n in range(25_000)]
        with serving(serve) as server:
            found = no_answer_of(client_of(server.url, timeout_s=1.5).add_attributes(ADA, custom))
            stop.set()
        assert found == NoAnswer(reason="no answer within 1.5 s", sent=True)

    def test_nothing_is_sent_when_the_time_since_the_claim_is_used_up(
        self, stand_in: SandboxProcess
    ) -> None:
        """The lease may be another worker's by now."""
        long_ago = time.monotonic() - 6
        client = client_of(stand_in.url, timeout_s=5)
        found = no_answer_of(client.add_attributes(ADA, [], since_s=long_ago))
        assert found == NoAnswer(reason="no answer within 5 s", sent=False)
        assert stand_in.requests() == []

    def test_through_the_tls_of_a_proxy_a_request_can_be_cut_off(self) -> None:
        here, there = socket.socketpair()
        tunnel = SSLTransport.__new__(SSLTransport)
        tunnel.socket = here
        deadline = _Deadline(0, 0)
        deadline._sock = tunnel
        with here, there:
            deadline.cut()
            assert there.recv(1) == b""

    @pytest.mark.parametrize("url", ["https://x:99999/v1", "https://.x/v1"])
    def test_an_address_that_is_none_is_no_answer(self, url: str) -> None:
        assert no_answer_of(client_of(url).ping()) == NoAnswer(reason="InvalidURL", sent=False)


class TestConnections:
    def test_a_thread_uses_one_again_and_again(self) -> None:
        with serving(well_behaved) as server:
            client = client_of(server.url)
            for _ in range(10):
                assert answer_of(client.add_attributes(ADA, [PLAN])).status == 200
            assert server.connections == 1

    def test_each_thread_has_its_own(self) -> None:
        together = threading.Barrier(3)
        with serving(well_behaved) as server:
            client = client_of(server.url)

            def work(_: int) -> None:
                together.wait(20)
                for _ in range(5):
                    assert answer_of(client.ping()).status == 200

            with ThreadPoolExecutor(3) as pool:
                list(pool.map(work, range(3)))
            assert server.connections == 3

    def test_one_that_the_server_has_closed_is_replaced(self) -> None:
        def once(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(OK)

        with serving(once) as server:
            client = client_of(server.url)
            for _ in range(3):
                found = client.ping()
                # The close may arrive with the next request: then it is known that it may act.
                assert isinstance(found, Answer) or found.sent
            assert server.connections >= 2

    def test_a_proxy_of_the_environment_is_not_used_within_this_machine(
        self, stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The key would go to the proxy in the clear."""
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
        assert answer_of(client_of(stand_in.url).ping()).status == 200

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_proxy_is_held_to_the_deadline_and_known_to_have_the_request(
        self, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            while server.request(connection):
                if server.heads[-1].startswith("CONNECT"):
                    connection.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")
                    return

        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with serving(serve) as proxy:
            monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{proxy.port}")
            client = client_of(f"{scheme}://chartmogul.invalid/v1", timeout_s=1)
            found = no_answer_of(client.ping())
        if scheme == "http":
            assert found == NoAnswer(reason="no answer within 1 s", sent=True)
        else:
            assert not found.sent, "the tunnel was not made"
            assert "Authorization" not in proxy.heads[0]

    def test_a_socks_proxy_is_refused_before_anything_is_sent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", f"socks5://127.0.0.1:{closed_port()}")
        assert not no_answer_of(client_of("https://chartmogul.invalid/v1").ping()).sent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


class TestTLS:
    def test_to_a_port_that_speaks_none_sends_nothing(self, stand_in: SandboxProcess) -> None:
        url = stand_in.url.replace("http://", "https://")
        found = no_answer_of(client_of(url, timeout_s=1).add_attributes(ADA, [PLAN]))
        assert not found.sent
        assert stand_in.requests() == []

    def test_to_a_certificate_that_nobody_signed_sends_nothing(self, tls: ssl.SSLContext) -> None:
        with serving(well_behaved, tls) as server:
            found = no_answer_of(client_of(server.url).add_attributes(ADA, [PLAN]))
        assert found == NoAnswer(
            reason="TLS failed: the server's certificate was not accepted", sent=False
        )
        assert server.heads == []

    def test_to_a_certificate_of_another_host_sends_nothing(
        self, tls: ssl.SSLContext, certificate: Path
    ) -> None:
        with serving(well_behaved, tls) as server:
            client = client_of(server.url.replace("127.0.0.1", "localhost"))
            _trust(client, certificate)
            found = no_answer_of(client.ping())
        assert not found.sent
        assert server.heads == []

    def test_that_holds_is_a_connection_as_any_other(
        self, tls: ssl.SSLContext, certificate: Path
    ) -> None:
        with serving(well_behaved, tls) as server:
            client = client_of(server.url)
            _trust(client, certificate)
            for _ in range(3):
                assert answer_of(client.add_attributes(ADA, [PLAN])).status == 200
            assert server.connections == 1

    @pytest.mark.parametrize("beginning", [b"", OK.replace(b": 2", b": 200")])
    def test_bytes_that_drip_in_do_not_hold_it_past_its_deadline(
        self, tls: ssl.SSLContext, certificate: Path, beginning: bytes
    ) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(beginning or b"HTTP/1.1 200 OK\r\nX: ")
            while not stop.wait(0.02):
                connection.sendall(b"x")

        stop = threading.Event()
        with serving(serve, tls) as server:
            client = client_of(server.url, timeout_s=1)
            _trust(client, certificate)
            found = no_answer_of(client.ping())
            stop.set()
        assert found == NoAnswer(reason="no answer within 1 s", sent=True)

    def test_a_handshake_that_never_ends_sends_nothing(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            stop.wait(30)

        stop = threading.Event()
        with serving(serve) as server:
            client = client_of(server.url.replace("http:", "https:"), timeout_s=1)
            found = no_answer_of(client.ping())
            stop.set()
        assert not found.sent


def _trust(client: ChartMogul, certificate: Path) -> None:
    """For this thread: loopback asks the environment for nothing."""
    client._line().environment["verify"] = str(certificate)


class TestTheKey:
    def test_is_in_no_repr(self, stand_in: SandboxProcess) -> None:
        client = client_of(stand_in.url, key="sk-never-shown")
        answer = client.ping()
        shown = [repr(client), str(client), repr(vars(client)), repr(answer), repr(Secret("sk-n"))]
        stand_in.configure(faults=[Fault(kind="drop_before")])
        shown.append(repr(client.add_attributes(ADA, [PLAN])))
        assert "sk-n" not in "".join(shown)

    def test_is_not_pickled(self) -> None:
        with pytest.raises(TypeError):
            pickle.dumps(Secret("sk-never-shown"))

"""The requests to ChartMogul, against the stand-in and against servers that misbehave."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
    Line,
    NoAnswer,
    NotSent,
)
from attribute_courier.worker.verdicts import Kind, judge
from attribute_courier.worker.way import Way

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


def add(
    client: ChartMogul, email: str, custom: list[dict[str, Any]]
) -> Answer | NoAnswer | NotSent:
    """A request that may leave at any time within its timeout."""
    ends_by_s = time.monotonic() + client._timeout_s
    return client.add_attributes(email, custom, leave_by_s=ends_by_s, ends_by_s=ends_by_s)


def answer_of(found: Answer | NoAnswer | NotSent) -> Answer:
    assert isinstance(found, Answer), found
    return found


def no_answer_of(found: Answer | NoAnswer | NotSent) -> NoAnswer:
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
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

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
        answer = answer_of(add(client_of(stand_in.url), ADA, EXAMPLE))
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
            add(client_of(server.url, key="key-of-ada"), "größe@example.com", [PLAN])
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
            client = ChartMogul(
                server.url,
                Secret("key"),
                timeout_s=5,
                with_associated_emails=with_associated_emails,
            )
            add(client, ADA, [PLAN])
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
        assert answer_of(add(client_of(stand_in.url), ADA, custom)).status == 200
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
        answer = answer_of(add(client_of(stand_in.url), ADA, [PLAN]))
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

    def test_may_say_more_than_once_how_long_to_wait(self) -> None:
        """CM8"""

        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            headers = b"Retry-After: 1.5\r\nRetry-After: soon\r\nRetry-After: 1\r\n"
            connection.sendall(b"HTTP/1.1 429 No\r\n" + headers + b"Content-Length: 0\r\n\r\n")

        with serving(serve) as server:
            assert answer_of(client_of(server.url).ping()).retry_after_s == 1.5

    @pytest.mark.parametrize("body", ["html", "empty"])
    def test_may_have_any_body(self, stand_in: SandboxProcess, body: str) -> None:
        stand_in.configure(faults=[{"kind": "status", "status": 502, "body": body}])
        answer = answer_of(client_of(stand_in.url).ping())
        assert (b"<html>" in answer.body) is (body == "html")

    def test_is_read_up_to_a_limit(self, stand_in: SandboxProcess) -> None:
        fault = Fault(kind="status", status=400, body="huge", body_bytes=6_000_000, count=1)
        stand_in.configure(faults=[fault])
        client = client_of(stand_in.url)
        assert len(answer_of(client.ping()).body) == MAX_BODY
        assert answer_of(client.ping()).status == 200, "and the next one is not the rest of it"

    def test_is_read_up_to_a_limit_where_it_never_ends(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")

        with serving(serve) as server:
            answer = answer_of(client_of(server.url, timeout_s=30).ping())
        assert answer.body == b"x" * MAX_BODY

    def test_is_read_whole_where_it_is_shorter(self, stand_in: SandboxProcess) -> None:
        stand_in.configure(faults=[Fault(kind="status", body="huge", body_bytes=MAX_BODY - 1)])
        assert len(answer_of(client_of(stand_in.url).ping()).body) == MAX_BODY - 1

    @pytest.mark.parametrize("before", [(100,), (102,), (103,), (103, 103), (100, 103), (101,)])
    def test_is_the_one_after_what_comes_before_it(self, before: tuple[int, ...]) -> None:
        """Else it would be taken for the answer to the next request."""

        def serve(server: Server, connection: socket.socket) -> None:
            while server.request(connection):
                for status in before:
                    connection.sendall(f"HTTP/1.1 {status} Wait\r\nLink: </a>\r\n\r\n".encode())
                number = len(server.heads)
                body = f'{{"number": {number}}}'
                length = f"Content-Length: {len(body)}\r\n"
                connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n{body}".encode())

        with serving(serve) as server:
            client = client_of(server.url)
            for number in (1, 2, 3):
                answer = answer_of(add(client, ADA, [PLAN]))
                assert (answer.status, json.loads(answer.body)) == (200, {"number": number})
            assert server.connections == 1

    @pytest.mark.parametrize(
        "rest",
        [
            b"Content-Length: 100\r\n\r\n{",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            b"Connection: close\r\nContent-Encoding: deflate\r\nContent-Length: 2\r\n\r\n{}",
        ],
        ids=["too short", "half a chunk", "no chunk", "no gzip", "no deflate"],
    )
    def test_has_its_status_though_its_body_cannot_be_read(self, rest: bytes) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n" + rest)

        with serving(serve) as server:
            client = client_of(server.url)
            for _ in range(2):
                answer = answer_of(add(client, ADA, [PLAN]))
                assert (answer.status, answer.retry_after_s) == (429, 7)
                assert judge(answer).kind is Kind.PACE
            assert server.connections == 2, "the rest of it is not taken for the next one"

    def test_has_its_status_though_its_body_never_ends(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 100\r\n\r\nToo")
            server.request(connection)  # until the client goes

        with serving(serve) as server:
            answer = answer_of(add(client_of(server.url, timeout_s=1), ADA, [PLAN]))
        assert judge(answer).kind is Kind.CONTENT

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
                answer = answer_of(add(client_of(server.url), ADA, [PLAN]))
        assert answer.status == status
        assert server.connections == 1
        assert elsewhere.connections == 0

    def test_is_a_redirect_of_the_stand_in_that_is_not_followed(
        self, stand_in: SandboxProcess
    ) -> None:
        stand_in.configure(faults=[Fault(kind="redirect")])
        assert answer_of(add(client_of(stand_in.url), ADA, [PLAN])).status == 302
        assert len(stand_in.requests()) == 1


class TestNoAnswer:
    @pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
    def test_a_dropped_connection_may_have_done_its_work(
        self, stand_in: SandboxProcess, kind: str
    ) -> None:
        stand_in.configure(faults=[{"kind": kind, "count": 1}])
        client = client_of(stand_in.url)
        found = no_answer_of(add(client, ADA, [PLAN]))
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
        found = no_answer_of(add(client, ADA, [PLAN]))
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
        port = closed_port()
        found = no_answer_of(client_of(f"http://127.0.0.1:{port}/v1").ping())
        reason = f"no connection to 127.0.0.1:{port}: connection refused"
        assert found == NoAnswer(reason=reason, sent=False)

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
        assert found.reason.endswith(": timed out")

    def test_a_host_that_does_not_exist_sends_nothing(self) -> None:
        found = no_answer_of(client_of("http://nowhere.invalid/v1", timeout_s=2).ping())
        assert not found.sent
        assert found.reason.startswith("no connection to nowhere.invalid:80: ")
        assert not found.own_side

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
            found = no_answer_of(add(client_of(server.url), ADA, [PLAN]))
        assert found.sent
        assert server.connections == 1
        assert "127.0.0.1" not in found.reason, "reasons are shown"

    def test_what_is_sent_while_nobody_reads_ends_with_the_deadline(self) -> None:
        stop = threading.Event()

        def serve(server: Server, connection: socket.socket) -> None:
            stop.wait(30)

        custom = [{"type": "String", "key": f"k{n}", "value": "x" * 250} for n in range(25_000)]
        with serving(serve) as server:
            found = no_answer_of(add(client_of(server.url, timeout_s=1.5), ADA, custom))
            stop.set()
        assert found == NoAnswer(reason="no answer within 1.5 s", sent=True)

    def test_through_the_tls_of_a_proxy_a_request_can_be_cut_off(self) -> None:
        here, there = socket.socketpair()
        tunnel = SSLTransport.__new__(SSLTransport)
        tunnel.socket = here
        line = Line("http://127.0.0.1/v1", {}, 1)
        line._sock = tunnel
        with here, there:
            line.cut()
            assert there.recv(1) == b""

    @pytest.mark.parametrize(
        "url", ["https://x:99999/v1", "https://.x/v1", "ftp://x/v1", "x", "http://127.0.0.1/ü"]
    )
    def test_an_address_that_is_none_is_our_own_fault(self, url: str) -> None:
        reason = "CHARTMOGUL_API_URL is not an address"
        assert client_of(url).ping() == NoAnswer(reason=reason, sent=False, own_side=True)

    def test_no_reason_tells_what_was_sent(self) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 " + server.request(connection) + b"\r\n" * 300)

        with serving(serve) as server:
            assert ADA not in repr(add(client_of(server.url), ADA, [PLAN]))


class TestTheTimeToLeave:
    def test_once_it_has_passed_nothing_is_sent(self, stand_in: SandboxProcess) -> None:
        client = client_of(stand_in.url)
        now_s = time.monotonic()
        found = client.add_attributes(ADA, [PLAN], leave_by_s=now_s - 0.1, ends_by_s=now_s + 5)
        assert found == NotSent()
        assert stand_in.requests() == []
        assert answer_of(add(client, ADA, [PLAN])).status == 200

    def test_is_looked_at_when_the_connection_is_open(self) -> None:
        """Directly before the write: what took long before it does not count as sent."""

        def slow_to_open(server: Server, connection: socket.socket) -> None:
            if server.connections == 1:
                while server.request(connection):  # the tunnel that is asked for
                    gate.wait(20)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                well_behaved(server, connection)

        gate = threading.Event()
        with serving(slow_to_open) as server:
            line = Line(server.url, {}, 5)
            line._way = way = Way(server.url)
            connection = way.connection(line)
            connection.set_tunnel("127.0.0.1", server.port)
            way.connection = lambda line: connection  # type: ignore[method-assign]
            now_s = time.monotonic()
            threading.Timer(0.3, gate.set).start()
            found = line.exchange("POST", "/x", b"{}", leave_by_s=now_s + 0.1, ends_by_s=now_s + 5)
        assert found == NotSent()
        assert [head.split()[0] for head in server.heads] == ["CONNECT"]

    def test_is_looked_at_after_a_process_stood_still(self, stand_in: SandboxProcess) -> None:
        """It stops while it writes the request down, and goes on when the time has passed."""

        class Standstill(dict[str, Any]):
            def items(self) -> Any:
                while time.monotonic() <= leave_by_s:
                    time.sleep(0.01)
                return super().items()

        client = client_of(stand_in.url)
        assert client.connect() is None
        leave_by_s = time.monotonic() + 0.1
        found = client.add_attributes(
            ADA, [Standstill(PLAN)], leave_by_s=leave_by_s, ends_by_s=leave_by_s + 5
        )
        assert found == NotSent()
        assert stand_in.requests() == []

    def test_a_request_is_one_write(self) -> None:
        pieces: list[bytes] = []

        def serve(server: Server, connection: socket.socket) -> None:
            while piece := connection.recv(1_000_000):
                pieces.append(piece)
                connection.sendall(OK)

        with serving(serve) as server:
            assert answer_of(add(client_of(server.url), ADA, [PLAN])).status == 200
        (whole,) = pieces
        assert whole.startswith(b"POST /v1/customers/attributes/custom HTTP/1.1\r\n")
        assert whole.endswith(b"}")

    def test_an_answer_tells_how_long_it_took(self, stand_in: SandboxProcess) -> None:
        stand_in.configure(faults=[Fault(kind="latency", seconds=0.3)])
        client = client_of(stand_in.url)
        assert 0.3 <= answer_of(add(client, ADA, [PLAN])).elapsed_s < 5
        stand_in.configure(faults=[Fault(kind="latency", seconds=60)])
        found = no_answer_of(add(client_of(stand_in.url, timeout_s=0.5), ADA, [PLAN]))
        assert 0.4 <= found.elapsed_s < 20
        nowhere = client_of(f"http://127.0.0.1:{closed_port()}/v1")
        assert no_answer_of(nowhere.ping()).elapsed_s == 0


class TestConnections:
    def test_a_thread_uses_one_again_and_again(self) -> None:
        with serving(well_behaved) as server:
            client = client_of(server.url)
            for _ in range(10):
                assert answer_of(add(client, ADA, [PLAN])).status == 200
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

    def test_a_process_that_is_forked_has_its_own(self) -> None:
        program = (
            "import os, sys\n"
            "from attribute_courier.config import Secret\n"
            "from attribute_courier.worker.chartmogul import ChartMogul\n"
            "client = ChartMogul(sys.argv[1], Secret('key'), timeout_s=5)\n"
            "client.ping()\n"
            "child = os.fork()\n"
            "said = client.ping()\n"
            "if child == 0:\n"
            "    os._exit(0 if said.status == 200 else 1)\n"
            "sys.exit(os.waitpid(child, 0)[1] or said.status != 200)\n"
        )
        with serving(well_behaved) as server:
            argv = [sys.executable, "-W", "ignore", "-c", program, server.url]
            environ = {**os.environ, "COURIER_REDIS_URL": "redis://127.0.0.1:1/0"}
            assert subprocess.run(argv, env=environ, timeout=60, check=False).returncode == 0
            assert (server.connections, len(server.heads)) == (2, 3)

    def test_one_can_be_opened_ahead_of_time(self) -> None:
        with serving(well_behaved) as server:
            client = client_of(server.url)
            assert client.connect() is None
            wait_until(lambda: server.connections == 1, what="it is open")
            assert client.connect() is None
            assert answer_of(add(client, ADA, [PLAN])).status == 200
            assert (server.connections, len(server.heads)) == (1, 1)

    def test_one_that_cannot_be_opened_says_why(self) -> None:
        port = closed_port()
        found = client_of(f"http://127.0.0.1:{port}/v1").connect()
        assert found is not None
        assert found.reason == f"no connection to 127.0.0.1:{port}: connection refused"

    @pytest.mark.parametrize("ahead", [True, False])
    def test_an_idle_one_that_the_server_has_closed_is_replaced(self, ahead: bool) -> None:
        """UP5"""

        def once(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(OK)

        with serving(once) as server:
            client = client_of(server.url)
            for number in range(1, 4):
                if ahead:
                    assert client.connect() is None
                assert answer_of(add(client, ADA, [PLAN])).status == 200
                sock = client._line()._sock
                assert isinstance(sock, socket.socket)
                wait_until(partial(_has_ended, sock), what="the server has closed it")
                assert server.connections == number

    def test_one_that_the_server_closes_with_its_answer_is_replaced(self) -> None:
        def once(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        with serving(once) as server:
            client = client_of(server.url)
            for _ in range(3):
                assert answer_of(add(client, ADA, [PLAN])).status == 200
            assert server.connections == 3

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


class TestAProxy:
    """UP2: what a proxy does wrong is our own side's fault, and the reason names the proxy."""

    @pytest.fixture(autouse=True)
    def _only_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)

    @pytest.mark.parametrize(("code", "own_side"), [(407, True), (403, True), (502, False)])
    def test_that_refuses_a_tunnel(
        self, monkeypatch: pytest.MonkeyPatch, code: int, own_side: bool
    ) -> None:
        """With 502 the proxy says that it did not reach ChartMogul."""

        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(f"HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n".encode())

        with serving(serve) as proxy:
            monkeypatch.setenv("https_proxy", f"http://eve:secret@127.0.0.1:{proxy.port}")
            client = client_of("https://chartmogul.invalid/v1")
            reason = (
                f"the proxy at 127.0.0.1:{proxy.port} refused ({code}) "
                "to connect to chartmogul.invalid:443"
            )
            for found in (client.connect(), add(client, ADA, [PLAN]), client.ping()):
                assert found == NoAnswer(reason=reason, sent=False, own_side=own_side)
        credentials = base64.b64encode(b"eve:secret").decode()
        assert f"Proxy-Authorization: Basic {credentials}" in proxy.heads[0]

    def test_that_refuses_a_request_it_passes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The target is plain HTTP, so the proxy sees the request."""

        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

        with serving(serve) as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            answer = answer_of(client_of("http://chartmogul.invalid/v1").ping())
        assert judge(answer).kind is Kind.ACCOUNT
        assert proxy.heads[0].startswith("GET http://chartmogul.invalid/v1/ping HTTP/1.1\r\n")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
        port = closed_port()
        monkeypatch.setenv(f"{scheme}_proxy", f"eve:secret@127.0.0.1:{port}")
        found = client_of(f"{scheme}://chartmogul.invalid/v1").ping()
        reason = f"no connection to the proxy at 127.0.0.1:{port}: connection refused"
        assert found == NoAnswer(reason=reason, sent=False, own_side=True)

    def test_that_has_blanks_around_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = closed_port()
        monkeypatch.setenv("https_proxy", f" http://127.0.0.1:{port} ")
        found = no_answer_of(client_of("https://chartmogul.invalid/v1").ping())
        assert found.reason == f"no connection to the proxy at 127.0.0.1:{port}: connection refused"

    @pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
    def test_that_is_none(self, monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(reply)

        with serving(serve) as proxy:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            found = client_of("https://chartmogul.invalid/v1").ping()
        reason = f"the proxy at 127.0.0.1:{proxy.port} does not answer as a proxy does"
        assert found == NoAnswer(reason=reason, sent=False, own_side=True)

    @pytest.mark.parametrize(
        ("proxy", "reason"),
        [
            ("socks5://eve:secret@127.0.0.1:1080", "a proxy is http:// or https://, not socks5://"),
            ("http://eve:secret@127.0.0.1:nine", "the address of the proxy cannot be read"),
            ("http://eve:secret@:3128", "the address of the proxy"),
            ("http://", "the address of the proxy"),
        ],
    )
    def test_that_cannot_be_used(
        self, monkeypatch: pytest.MonkeyPatch, proxy: str, reason: str
    ) -> None:
        monkeypatch.setenv("https_proxy", proxy)
        found = no_answer_of(client_of("https://chartmogul.invalid/v1").ping())
        assert found.reason.startswith(reason)
        assert (found.sent, found.own_side) == (False, True)
        assert "secret" not in found.reason

    def test_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may wait for ChartMogul itself, so nobody knows whose fault it is."""

        def serve(server: Server, connection: socket.socket) -> None:
            while server.request(connection):
                pass

        with serving(serve) as proxy:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            found = client_of("https://chartmogul.invalid/v1", timeout_s=1).connect()
        through = f"through the proxy at 127.0.0.1:{proxy.port}"
        reason = f"no connection to chartmogul.invalid:443 {through}: timed out"
        assert found == NoAnswer(reason=reason, sent=False)

    @pytest.mark.parametrize("of_the_proxy", ["http", "https"])
    def test_that_works(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tls: ssl.SSLContext,
        certificate: Path,
        of_the_proxy: str,
    ) -> None:
        """To a server of TLS, through a tunnel; the proxy may speak TLS too."""

        def tunnel(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            here, there = socket.socketpair()
            threading.Thread(target=target._handle, args=(there,), daemon=True).start()
            threading.Thread(target=_pump, args=(connection, here), daemon=True).start()
            _pump(here, connection)

        monkeypatch.setattr("attribute_courier.worker.way.is_loopback", lambda host: False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with (
            serving(well_behaved, tls) as target,
            serving(tunnel, tls if of_the_proxy == "https" else None) as proxy,
        ):
            monkeypatch.setenv("https_proxy", f"{of_the_proxy}://127.0.0.1:{proxy.port}")
            client = client_of(target.url)
            assert client.connect() is None
            for _ in range(3):
                assert answer_of(add(client, ADA, [PLAN])).status == 200
        assert proxy.connections == 1
        assert "Authorization" not in proxy.heads[0]
        assert len(target.heads) == 3


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)


def _has_ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


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


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is one that our side accepts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))


class TestTLS:
    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    @pytest.mark.parametrize("content", [None, b"", b"no certificate"])
    def test_with_a_ca_file_that_cannot_be_read_is_our_own_fault_until_it_is_mended(
        self,
        tls: ssl.SSLContext,
        certificate: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        content: bytes | None,
        name: str,
    ) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(name, str(path))
        with serving(well_behaved, tls) as server:
            client = client_of(server.url)
            found = no_answer_of(client.ping())
            assert found.reason.startswith(f"the CA file {path} ({name}) cannot be read: ")
            assert (found.sent, found.own_side) == (False, True)
            path.write_bytes(certificate.read_bytes())
            assert answer_of(client.ping()).status == 200

    def test_to_a_port_that_speaks_none_sends_nothing(self, stand_in: SandboxProcess) -> None:
        url = stand_in.url.replace("http://", "https://")
        found = no_answer_of(add(client_of(url, timeout_s=1), ADA, [PLAN]))
        assert not found.sent
        assert stand_in.requests() == []

    def test_to_a_certificate_that_nobody_signed_sends_nothing(self, tls: ssl.SSLContext) -> None:
        with serving(well_behaved, tls) as server:
            found = no_answer_of(add(client_of(server.url), ADA, [PLAN]))
        reason = (
            f"the certificate of 127.0.0.1:{server.port} does not verify: self-signed certificate"
        )
        assert found == NoAnswer(reason=reason, sent=False, own_side=True)
        assert server.heads == []

    def test_to_a_certificate_of_another_host_sends_nothing(
        self, tls: ssl.SSLContext, trusted: None
    ) -> None:
        with serving(well_behaved, tls) as server:
            client = client_of(server.url.replace("127.0.0.1", "localhost"))
            found = no_answer_of(client.ping())
        assert found.reason.startswith(f"the certificate of localhost:{server.port} does not ve")
        assert "Hostname mismatch" in found.reason
        assert (found.sent, found.own_side) == (False, True)
        assert server.heads == []

    def test_that_holds_is_a_connection_as_any_other(
        self, tls: ssl.SSLContext, trusted: None
    ) -> None:
        with serving(well_behaved, tls) as server:
            client = client_of(server.url)
            for _ in range(3):
                assert client.connect() is None, "session tickets do not make it look closed"
                assert answer_of(add(client, ADA, [PLAN])).status == 200
            assert server.connections == 1

    @pytest.mark.parametrize("beginning", [b"", OK.replace(b": 2", b": 200")])
    def test_bytes_that_drip_in_do_not_hold_it_past_its_deadline(
        self, tls: ssl.SSLContext, trusted: None, beginning: bytes
    ) -> None:
        def serve(server: Server, connection: socket.socket) -> None:
            server.request(connection)
            connection.sendall(beginning or b"HTTP/1.1 200 OK\r\nX: ")
            while not stop.wait(0.02):
                connection.sendall(b"x")

        stop = threading.Event()
        with serving(serve, tls) as server:
            client = client_of(server.url, timeout_s=1)
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


class TestTheKey:
    def test_is_in_no_repr(self, stand_in: SandboxProcess) -> None:
        client = client_of(stand_in.url, key="sk-never-shown")
        answer = client.ping()
        shown = [repr(client), str(client), repr(vars(client)), repr(answer), repr(Secret("sk-n"))]
        stand_in.configure(faults=[Fault(kind="drop_before")])
        shown.append(repr(add(client, ADA, [PLAN])))
        assert "sk-n" not in "".join(shown)

    def test_is_not_pickled(self) -> None:
        with pytest.raises(TypeError):
            pickle.dumps(Secret("sk-never-shown"))

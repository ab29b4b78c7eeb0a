"""A receiver of hooks on a real socket, which a test lets misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True)
class Told:
    """What one request told, in the order of arrival."""

    id: str
    type: str
    data: dict[str, Any]
    headers: dict[str, str] = field(compare=False)
    raw: bytes = field(compare=False)
    answered: int = 200

    @property
    def job_id(self) -> str:
        return str(self.data.get("job_id"))


Answer = int | tuple[int, dict[str, str]] | None
"""A status, or with headers; None: the connection is closed without an answer."""


class HookReceiver:
    """Takes what is signed rightly. `answer` says what else happens; it may take its time."""

    def __init__(self) -> None:
        self.answer: Callable[[Told], Answer] = lambda told: 200
        self.asked: list[Told] = []
        """All requests."""
        self.bad_signatures = 0
        self.under_way = 0
        """Requests that were or are to be answered."""
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver._take(headers, body)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, more = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **more}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 50

            def handle_error(self, *args: object) -> None:
                """Nothing: a client went away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook?from=courier"

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a worker that tells this receiver."""
        return {"COURIER_HOOK_URL": self.url, "COURIER_HOOK_SECRET": SECRET}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail_at_random(self, share: float, *, seed: int = 1) -> None:
        """Answer so many requests in every kind of wrong way."""
        draw, lock = random.Random(seed), threading.Lock()

        def answer(told: Told) -> Answer:
            with lock:
                fails, kind, late_s = draw.random() < share, draw.randrange(5), draw.random() / 5
            time.sleep(late_s)
            return [500, 503, 429, None, 302][kind] if fails else 200

        self.answer = answer

    def _take(self, headers: dict[str, str], body: bytes) -> Answer:
        if not is_signed(headers, body):
            with self._lock:
                self.bad_signatures += 1
            return 401
        document = json.loads(body)
        told = Told(headers["webhook-id"], document["type"], document["data"], headers, body)
        with self._lock:
            self.under_way += 1
        answer = self.answer(told)
        status = answer[0] if isinstance(answer, tuple) else answer or 0
        with self._lock:
            self.asked.append(Told(told.id, told.type, told.data, headers, body, status))
        return answer

    # What came of it.

    def taken(self, type_: str = "job.settled") -> list[Told]:
        """What was taken, each once, in the order in which it was taken first."""
        with self._lock:
            asked = [each for each in self.asked if 200 <= each.answered < 300]
        first: dict[str, Told] = {}
        for each in asked:
            first.setdefault(each.id, each)
        return [each for each in first.values() if each.type == type_]


def is_signed(headers: dict[str, str], body: bytes) -> bool:
    """By the specification, letter by letter, and not by the code under test."""
    signed = b".".join(
        [headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body]
    )
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    wanted = "v1," + base64.standard_b64encode(digest).decode()
    late = abs(time.time() - int(headers["webhook-timestamp"])) > 300
    return not late and wanted in headers["webhook-signature"].split(" ")

"""Webhooks and tasks that are told of settled jobs, on real sockets, however they answer."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from attribute_courier.config import Secret
from attribute_courier.jobs.hooks import HookEvent
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.worker import receivers
from attribute_courier.worker.receivers import Refused, Task, Webhook, signed

from ..hook_receiver import SECRET, HookReceiver
from ..waiting import wait_until

PASSWORD = "hush-never-shown"
EVENT = HookEvent(
    id="a-job_1-0",
    type="job.settled",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    data={"job_id": "a-job", "status": "delivered", "message": "ä"},
)


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as found:
        yield found


def webhook(url: str, *secrets: str, timeout_s: float = 5) -> Webhook:
    keys = [Secret(each) for each in secrets or (SECRET,)]
    return Webhook(Secret(url), keys, timeout_s=timeout_s)


def refused(found: Refused | None) -> Refused:
    assert found is not None
    return found


class TestSigning:
    def test_as_the_specification_of_standard_webhooks_has_it(self) -> None:
        """The example that its libraries are tested with."""
        headers = signed(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            [Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        )
        assert headers == {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }

    def test_what_is_sent_is_signed_with_each_key(self, receiver: HookReceiver) -> None:
        other = "whsec_" + "QUFB" * 8
        assert webhook(receiver.url, other, SECRET).send(EVENT) is None
        assert webhook(receiver.url, SECRET, other).send(EVENT) is None
        assert refused(webhook(receiver.url, other).send(EVENT)).reason == "HTTP 401"
        assert receiver.bad_signatures == 1

    def test_the_id_stays_and_the_time_is_that_of_the_attempt(self, receiver: HookReceiver) -> None:
        hook = webhook(receiver.url)
        hook.send(EVENT)
        [told] = receiver.asked
        assert told.headers["webhook-id"] == EVENT.id
        assert abs(int(told.headers["webhook-timestamp"]) - time.time()) < 60
        assert json.loads(told.raw) == {
            "type": "job.settled",
            "timestamp": "2026-01-01T00:00:00+00:00",
            "data": EVENT.data,
        }
        assert told.headers["content-type"] == "application/json"


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_2xx_takes_it(self, receiver: HookReceiver, status: int) -> None:
        receiver.answer = lambda told: status
        assert webhook(receiver.url).send(EVENT) is None

    @pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
    def test_what_says_something_of_the_receiver(self, receiver: HookReceiver, status: int) -> None:
        receiver.answer = lambda told: status
        assert webhook(receiver.url).send(EVENT) == Refused(reason=f"HTTP {status}", by_all=True)

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_what_says_something_of_the_event(self, receiver: HookReceiver, status: int) -> None:
        receiver.answer = lambda told: status
        assert webhook(receiver.url).send(EVENT) == Refused(reason=f"HTTP {status}", by_all=False)

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after(self, receiver: HookReceiver, status: int) -> None:
        receiver.answer = lambda told: (status, {"Retry-After": "7"})
        assert refused(webhook(receiver.url).send(EVENT)).retry_after_s == 7

    def test_gone_for_good_is_asked_seldom(self, receiver: HookReceiver) -> None:
        receiver.answer = lambda told: 410
        assert refused(webhook(receiver.url).send(EVENT)).retry_after_s == 300

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed(self, receiver: HookReceiver, status: int) -> None:
        with HookReceiver() as elsewhere:
            receiver.answer = lambda told: (status, {"Location": elsewhere.url})
            found = refused(webhook(receiver.url).send(EVENT))
            assert found.reason == f"HTTP {status}: redirects are not followed"
            assert elsewhere.asked == []

    def test_a_connection_that_is_closed(self, receiver: HookReceiver) -> None:
        receiver.answer = lambda told: None
        found = refused(webhook(receiver.url).send(EVENT))
        assert found.by_all
        assert found.reason in ("the connection failed", "the answer broke off")

    def test_nobody_listens(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        found = refused(webhook(f"http://127.0.0.1:{port}/hook").send(EVENT))
        assert found == Refused(reason=f"no connection to 127.0.0.1:{port}: connection refused")

    def test_one_that_hangs(self, receiver: HookReceiver) -> None:
        hangs = threading.Event()
        receiver.answer = lambda told: 200 if hangs.wait(20) else 500
        begin_s = time.monotonic()
        found = refused(webhook(receiver.url, timeout_s=0.3).send(EVENT))
        assert found.reason == "no answer within 0.3 s"
        assert time.monotonic() - begin_s < 5
        hangs.set()

    def test_one_that_answers_a_byte_at_a_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            stopping = threading.Event()

            def drip() -> None:
                connection, _ = server.accept()
                with connection:
                    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000:
                        if stopping.wait(0.05):
                            return
                        try:
                            connection.send(bytes([byte]))
                        except OSError:
                            return

            thread = threading.Thread(target=drip, daemon=True)
            thread.start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            begin_s = time.monotonic()
            found = refused(webhook(url, timeout_s=0.4).send(EVENT))
            assert found.reason == "no answer within 0.4 s"
            assert time.monotonic() - begin_s < 5
            stopping.set()
            thread.join(5)

    def test_a_certificate_that_does_not_verify(self, tmp_path: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs openssl to make a certificate")
        key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", key, "-out", cert),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                connection, _ = server.accept()
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            url = f"https://localhost:{server.getsockname()[1]}/"
            found = refused(webhook(url).send(EVENT))
            thread.join(5)
        assert "does not verify" in found.reason


class TestPrivate:
    def test_no_password_and_no_path_in_the_name(self, receiver: HookReceiver) -> None:
        url = receiver.url.replace("://", f"://ada:{PASSWORD}@").replace("courier", "token")
        hook = webhook(url)
        assert hook.send(EVENT) is None
        [told] = receiver.asked
        assert told.headers["authorization"].startswith("Basic ")
        assert hook.name.startswith("the webhook at 127.0.0.1:")
        assert PASSWORD not in hook.name
        assert "token" not in hook.name
        assert PASSWORD not in repr(EVENT) + EVENT.summary()

    def test_the_data_is_in_no_repr(self) -> None:
        assert "message" not in repr(EVENT)
        assert EVENT.summary() == "job.settled a-job delivered"


class TestTask:
    def task(self, server: EmbeddedRedis, queue: str = "outcomes") -> Task:
        return Task("shop.on_outcome", Secret(server.url), queue, timeout_s=2)

    def test_an_applications_worker_runs_it(self, server: EmbeddedRedis) -> None:
        app = Celery("shop", broker=server.url, set_as_current=False)
        app.conf.update(task_default_queue="outcomes", worker_hijack_root_logger=False)
        ran: list[tuple[str, Any]] = []

        @app.task(name="shop.on_outcome", bind=True)
        def on_outcome(self: Any, event: dict[str, Any]) -> None:
            ran.append((self.request.id, event))

        task = self.task(server)
        assert task.send(EVENT) is None
        assert task.send(EVENT) is None
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
            wait_until(lambda: len(ran) == 2)
        assert ran[0] == ran[1], "a repeat has the same id"
        assert ran[0][1] == EVENT.document()

    def test_the_message_is_json_and_shows_flower_no_data(self, server: EmbeddedRedis) -> None:
        assert self.task(server).send(EVENT) is None
        with Celery("shop", broker=server.url, set_as_current=False).connection() as connection:
            message = connection.SimpleQueue("outcomes").get(timeout=5)
            assert message.content_type == "application/json"
            assert message.headers["argsrepr"] == "job.settled a-job delivered"
            assert message.headers["task"] == "shop.on_outcome"

    def test_a_queue_that_nobody_reads_does_not_fill_up(
        self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receivers, "MAX_WAITING", 2)
        monkeypatch.setattr(receivers, "LOOK_AT_QUEUE_S", 0)
        task = self.task(server)
        answers = [task.send(EVENT) for _ in range(4)]
        assert answers[:2] == [None, None]
        assert answers[2:] == [Refused(reason="its queue holds 2 messages already")] * 2

    def test_a_broker_that_is_away(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        task = Task("x", Secret(f"redis://:{PASSWORD}@127.0.0.1:{port}/0"), "q", timeout_s=1)
        found = refused(task.send(EVENT))
        assert found.by_all
        assert "the broker does not take it" in found.reason
        assert PASSWORD not in found.reason + task.name

    def test_a_broker_that_comes_back(self, server: EmbeddedRedis) -> None:
        task = self.task(server)
        assert task.send(EVENT) is None
        server.kill()
        assert task.send(EVENT) is not None
        server.start()
        wait_until(lambda: task.send(EVENT) is None)

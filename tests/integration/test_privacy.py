"""Promise 10: emails, values and keys are in no log, no message and no event."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator

import redis

from attribute_courier.config.celery import ACCEPT_QUEUE, KEY_PREFIX
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault, LeashedProcess
from attribute_courier.state.email_hash import EmailHash

from ..conftest import Courier
from ..waiting import wait_until

VALUE = "Facebook-ads-7"
DOMAIN = "@corp.example"
REFUSAL = {
    "errors": {
        "custom": f"re.fused{DOMAIN} (RE.FUSED{DOMAIN.upper()}): '{VALUE}' is no good, {VALUE}!"
    }
}
FAULTS = [
    Fault(kind="status", status=422, email=f"re.fused{DOMAIN}", content=json.dumps(REFUSAL)),
    Fault(kind="status", status=500, email=f"ser.ver{DOMAIN}", body="html", count=1),
    Fault(kind="status", status=401, email=f"un.authorized{DOMAIN}", count=1),
    Fault(kind="drop_after", email=f"dro.pped{DOMAIN}", count=1),
    Fault(kind="latency", seconds=3, email=f"ti.meout{DOMAIN}", count=1),
    Fault(kind="malformed", email=f"mal.formed{DOMAIN}", count=1),
    Fault(kind="redirect", email=f"re.direct{DOMAIN}", count=1),
]
EXPECTED = {
    "deli.vered": "delivered",
    "re.fused": "refused",
    "un.confirmed": "unconfirmed",
    "un.matched": "unmatched",
    "ser.ver": "delivered",
    "un.authorized": "delivered",
    "dro.pped": "delivered",
    "ti.meout": "delivered",
    "mal.formed": "delivered",
    "re.direct": "delivered",
}
PRIVATE = (
    *(f"{name}{DOMAIN}" for name in (*EXPECTED, "in.valid", "bro.ken")),
    *(name for name in EXPECTED if "." in name),
    VALUE,
    DEFAULT_API_KEY,
    base64.b64encode(DEFAULT_API_KEY.encode()).decode()[:14],
)


@contextlib.contextmanager
def spied(client: redis.Redis) -> Iterator[list[str]]:
    """All commands that go to Celery's part of Redis: messages, events, remote control."""
    seen: list[str] = []
    ready = threading.Event()

    def watch() -> None:
        with client.monitor() as monitor:
            ready.set()
            for command in monitor.listen():
                text = str(command["command"])
                if text.startswith("PING stop"):
                    return
                if KEY_PREFIX in text and not text.startswith("EVAL"):  # what it does is shown, too
                    seen.append(text)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        client.execute_command("PING", "stop")
        thread.join(10)


def decoded(command: str) -> str:
    """A command with the bodies of its messages in the clear."""
    if '"body": "' not in command:
        return command
    body = command.split('"body": "')[1].split('"')[0]
    return command + base64.b64decode(body).decode()


def test_no_outcome_shows_what_is_private(courier: Courier) -> None:
    private = (*PRIVATE, courier.server.password)
    with spied(courier.client) as commands:
        customers = [f"{name}{DOMAIN}" for name in EXPECTED if name not in ("un.matched",)]
        courier.stand_in.configure(
            faults=FAULTS, customers=customers, quiet_emails=[f"un.confirmed{DOMAIN}"]
        )
        start_talkative_worker(courier)

        receipts = {
            name: courier.producer.add_attributes(f"{name}{DOMAIN}", {"channel": VALUE, "age": 8})
            for name in EXPECTED
        }
        invalid = new_job_id()
        document = {"v": 1, "email": f"in.valid{DOMAIN}", "attributes": [{"value": VALUE}]}
        courier.client.hset(courier.keys.inbox, invalid, json.dumps(document))
        courier.client.zadd(courier.keys.of("inbox:live"), {invalid: 1})
        broken = break_a_mailbox(courier)

        outcomes = courier.wait(*receipts.values(), timeout_s=60)
        statuses = [outcome.status for outcome in outcomes]
        assert dict(zip(EXPECTED, statuses, strict=True)) == EXPECTED
        wait_until(lambda: courier.outcomes.get(invalid).settled)  # type: ignore[union-attr]
        wait_until(lambda: "raised unexpected" in courier.log(), what="the unexpected error")
        assert courier.outcomes.get(broken) is not None

        for outcome in (*outcomes, courier.outcomes.get(invalid)):
            shown = f"{outcome!r} {outcome.message}"  # type: ignore[union-attr]
            assert not [text for text in private if text in shown]
        # An error of Celery's own, and what remote control tells of the settings.
        courier.producer.celery.send_task("accept.nothing", ["x"], queue=ACCEPT_QUEUE)
        wait_until(lambda: "it names no task of ours" in courier.log())
        told = courier.producer.celery.control.inspect(timeout=10, limit=1)
        answers = f"{told.conf()} {told.stats()} {told.active_queues()}"
        assert "courier@" in answers
        log_text = courier.log()

    events = [text for text in commands if text.startswith("PUBLISH")]
    messages = [text for text in commands if text.startswith("LPUSH")]
    assert any("task-failed" in decoded(text) for text in events)
    assert any("task-retried" in decoded(text) for text in events)
    assert len(messages) > len(EXPECTED)
    assert "DEBUG" in log_text
    sent = "".join(map(decoded, commands))
    hashed = EmailHash(lambda: courier.client).of(f"deli.vered{DOMAIN}")
    assert f"email={hashed}" in log_text, "what may be seen"
    assert "***@" not in log_text
    assert f"d***@corp.example · 2 attributes · {hashed}" in sent.encode().decode("unicode_escape")
    for text in private:
        assert text.lower() not in sent.lower(), text
        assert text.lower() not in log_text.lower(), text
        assert text.lower() not in answers.lower(), text


def start_talkative_worker(courier: Courier) -> None:
    argv = [sys.executable, "-m", "attribute_courier.cli", "worker", "--loglevel", "debug"]
    with (courier.logs / "worker-0.log").open("ab") as log:
        environ = {**os.environ, **courier.environ}
        courier.workers.append(LeashedProcess(argv, env=environ, stdout=log, stderr=log))
    wait_until(lambda: " ready." in courier.log())


def break_a_mailbox(courier: Courier) -> str:
    """A value in a mailbox that the worker cannot read: an error that nobody foresaw."""
    job_id = new_job_id()
    email = f"bro.ken{DOMAIN}"
    mailbox_id = mailbox_id_of(email)
    prefix = courier.keys.prefix
    version = f"{1:016d}{job_id}"
    courier.client.hset(f"{prefix}job:{job_id}", mapping={"email": email, "lane": "live"})
    courier.client.hset(
        f"{prefix}mailbox:{mailbox_id}",
        mapping={"#1": f"{version}1", "@next": 2, "@live": 1, "channel": f'1["String","{VALUE}'},
    )
    courier.client.zadd(f"{prefix}due:live", {mailbox_id: 0})
    return job_id

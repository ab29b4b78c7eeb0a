"""Handing over what became of jobs: one relay for each account, in the worker that has its lease.

A relay reads the streams of settled jobs and of the account's events, in order, and hands each
entry to the receiver, several emails at once. An entry is done when the receiver took it, so what a
dead relay had in hand is handed over again: at least once.

**In order for each email.** An entry is handed over when all of the same email before it are done.
What the receiver refuses is set aside, and with it what follows of that email; others go on.

**A receiver that is down** (many different emails refused, none taken between) gets one event at a
time, with growing pauses, and the streams wait where they are. After the retention, or when so
many wait that the stream would lose them, the oldest are passed over and counted, and the receiver
is told once it takes events again.

Nothing of this is on the way of a delivery: the step that settles a job writes the stream anyhow.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from ..config.connections import Client
from ..config.redis_errors import RedisError
from ..config.settings import Settings
from ..jobs.emails import mailbox_id_of
from ..jobs.hooks import HookEvent, account_event, dropped, job_settled
from ..jobs.outcome import Outcome, Status
from ..state.hooks import Aside, Hooks, Progress, Record, Step
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from ..state.shards import shortly
from .hook_order import PARALLEL, Item, Order
from .receivers import Receiver, Refused, receiver_of
from .trouble import RedisTrouble

log = logging.getLogger(__name__)

WINDOW = 256
"""Entries of each stream that are read and not done, at most."""
MAX_BEHIND = 200_000
"""Settled jobs that wait at most: the stream keeps 250,000."""
MAX_ASIDE = 10_000
"""Events that are set aside at most."""
FRESH_S = 5.0
"""What is known of a job is read again when it is older than this."""
NOTE_S = 0.05
"""How often it is noted what was handed over, at most."""
IDLE_S = 0.5
"""How often a relay looks that has nothing to do."""
OTHERS_S = 1.0
"""How often a relay looks whose account another one has."""
WATCH_S = 5.0
"""How often it looks after the backlog, and how far it is behind."""
SAY_S = 60.0
"""How often the log says that single events are refused or dropped, at most."""
AFTER_ERROR_S = 10.0
"""The pause after an error that nobody foresaw."""
ACCOUNT = "account"
"""The group of an account's own events; an email's group is its mailbox's id."""
_SAME_STEP_MS = 1000
"""In one step of Redis, its clock and the id of an entry may differ by a little."""


@dataclass(frozen=True, kw_only=True)
class HookPolicy:
    """What is told, and for how long it is tried."""

    statuses: Collection[str]
    """Of jobs that are told of."""
    with_email: bool
    retention_s: float
    stop_within_s: float
    """When the worker stops, what is under way has so long to end."""


class HookRelay:
    """Hands over what happens to one account. `run` is one thread's; it has others for sending.

    Args:
        account: its name.
        hooks: how far they have come.
        receiver: who is told.
        trouble: to whom Redis's trouble is told.
        email_hash: what stands for an email.
    """

    def __init__(
        self,
        account: str,
        *,
        hooks: Hooks,
        outcomes: Outcomes,
        receiver: Receiver,
        policy: HookPolicy,
        trouble: RedisTrouble,
        email_hash: Callable[[str], str],
    ) -> None:
        self._account = account
        self._hooks = hooks
        self._outcomes = outcomes
        self._receiver = receiver
        self._policy = policy
        self._trouble = trouble
        self._email_hash = email_hash
        self._token = secrets.token_hex(8)
        self._results: queue.SimpleQueue[tuple[Item, Refused | None]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix=f"hook-{account}")
        self._unforeseen_said: dict[str, float] = {}
        self._down_said = False
        self._down_said_s = -SAY_S
        self._said_s = -SAY_S
        self._refusals = self._drops = 0
        self._error = ""
        self._lease: _Lease | None = None

    # The thread.

    def run(self, stopping: threading.Event) -> None:
        """Hand over until it is to stop; then leave the account to another worker's relay."""
        part, wait_s = f"hooks of {self._account}", 0.0
        while not stopping.is_set():
            self._await_result(wait_s, stopping)
            try:
                wait_s = self.turn()
            except RedisError as error:
                self._trouble.met(part, error)
                wait_s = 1.0
            except Exception as error:
                self._unforeseen(error)
                self._lease, wait_s = None, AFTER_ERROR_S
            else:
                self._trouble.over(part)
        self._stop()

    def _await_result(self, wait_s: float, stopping: threading.Event) -> None:
        """Until the time is up, something that was under way has ended, or the worker stops."""
        ends_s = time.monotonic() + wait_s
        while not stopping.is_set() and (left_s := ends_s - time.monotonic()) > 0:
            try:
                result = self._results.get(timeout=min(left_s, IDLE_S))
            except queue.Empty:
                continue
            self._results.put(result)
            return

    def _stop(self) -> None:
        ends_s = time.monotonic() + self._policy.stop_within_s
        try:
            if (lease := self._lease) is not None:
                while lease.order.under_way and time.monotonic() < ends_s:
                    time.sleep(0.02)
                    self._take_results(lease)
                self._note(lease, release=True)
        except RedisError:
            pass  # the lease ends by itself
        except Exception as error:
            self._unforeseen(error)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _unforeseen(self, error: Exception) -> None:
        """Say it, now and then; with neither text nor traceback, which may hold an email."""
        text, now_s = f"{type(error).__name__} in {_place(error)}", time.monotonic()
        if now_s > self._unforeseen_said.get(text, -SAY_S) + SAY_S:
            self._unforeseen_said[text] = now_s
            log.error(
                "account %s: hooks met an unexpected error (%s); they try again, and deliveries "
                "go on",
                self._account,
                text,
            )

    # One turn.

    def turn(self) -> float:
        """Take up what has ended, note it, read on, send. Returns seconds until the next turn.

        Raises:
            RedisError: Redis fails. What is in hand stays so.
        """
        if self._lease is None:
            self._lease = self._take_lease()
            if self._lease is None:
                return OTHERS_S
        lease, now_s = self._lease, time.monotonic()
        self._take_results(lease)
        if now_s < lease.noted_s + NOTE_S:
            self._send(lease)
            return lease.noted_s + NOTE_S - now_s
        lease.noted_s = now_s
        looks = now_s >= lease.watched_s + min(WATCH_S, self._policy.retention_s / 4)
        step = self._note(lease, most=lease.room(), measure=looks)
        if step is None:
            return OTHERS_S
        self._take_up(lease, step)
        if looks:
            lease.watched_s = now_s
            self._hooks.watch()
            self._drop_what_is_too_old(lease, step)
            self._say()
        self._send(lease)
        if step.records and lease.room():
            return NOTE_S
        return min(IDLE_S, max(NOTE_S, lease.order.next_s() - time.monotonic()))

    def _take_lease(self) -> _Lease | None:
        step = self._hooks.step(self._token, holds=False)
        if step is None:
            return None
        lease = _Lease(step)
        asides = self._hooks.asides()
        outcomes = self._outcomes_of([aside.record for aside in asides])
        for aside, outcome in zip(asides, outcomes, strict=True):
            item = Item(group=_group(outcome), record=aside.record, aside=aside, done=True)
            lease.asides[aside.record.name] = item
            lease.order.add(item, retry_at_s=0.0)  # whatever its pause was
        return lease

    def _note(
        self, lease: _Lease, *, most: int = 0, measure: bool = False, release: bool = False
    ) -> Step | None:
        """Note what is done, and read on. None if another relay has the account now."""
        step = self._hooks.step(
            self._token,
            holds=True,
            progress=lease.noting(),
            after=lease.read_to,
            most=most,
            # While the receiver is down this waits for all of it, unless nothing else is told.
            tell=lease.notice_id is None and not (lease.order.is_down and lease.order.is_busy),
            measure=measure,
            release=release,
        )
        if step is None or release:
            self._lease = None
        if step is not None:
            lease.noted(step)
        return step

    # Reading.

    def _take_up(self, lease: _Lease, step: Step) -> None:
        """Take in hand what was read."""
        if not step.records and not any(lease.windows.values()):
            lease.progress.caught_up = True
        lease.find_gap(step.records)
        # What is set aside may be read again: its stream's cursor has not passed it yet.
        wanted = [
            each for each in step.records if each.name not in lease.asides and self._is_wanted(each)
        ]
        outcomes = self._outcomes_of(wanted)
        known = {each.name: found for each, found in zip(wanted, outcomes, strict=True)}
        for record in step.records:
            item = Item(record=record, done=record.name not in known)
            lease.read(item)
            if not item.done:
                item.outcome, item.read_s = known[record.name], time.monotonic()
                item.group = _group(item.outcome)
                lease.order.add(item)
                if lease.order.is_blocked(item.group):
                    self._set_aside(lease, item)
        if step.dropped is not None and lease.notice_id is None:
            lease.notice_id = step.dropped.id
            lease.order.add(Item(group=ACCOUNT, notice=step.dropped))

    def _is_wanted(self, record: Record) -> bool:
        if record.stream == "events":
            return "type" in record.fields
        return record.fields.get("status") in self._policy.statuses and "job" in record.fields

    def _outcomes_of(self, records: Collection[Record]) -> list[Outcome | None]:
        """Of each settled job what is known; None for other records.

        The outcome may be another one by now, or gone: the job was replayed, or its email was
        forgotten. Then only what the entry says is told.
        """
        job_ids = [each.fields["job"] for each in records if each.stream == "outcomes"]
        known = dict(zip(job_ids, self._outcomes.many(job_ids), strict=True))
        found: list[Outcome | None] = []
        for record in records:
            outcome = None if record.stream == "events" else known[record.fields["job"]]
            if record.stream == "outcomes" and not _is_of(outcome, record):
                outcome = Outcome(
                    job_id=record.fields["job"],
                    account=self._account,
                    status=cast(Status, record.status),
                    email=outcome.email if outcome else None,
                )
            found.append(outcome)
        return found

    # Sending.

    def _send(self, lease: _Lease) -> None:
        """Send what may be sent now."""
        while (item := lease.order.next(time.monotonic())) is not None:
            try:
                event = self._event(item)
            except RedisError:
                lease.order.give_back(item)
                raise
            self._pool.submit(self._hand_over, item, event)

    def _event(self, item: Item) -> HookEvent:
        record, notice, account = item.record, item.notice, self._account
        if notice is not None:
            return dropped(account, notice.id, notice.counts, notice.since, notice.until)
        assert record is not None  # noqa: S101  (it is one or the other)
        outcome = item.outcome
        # Whose email was forgotten meanwhile is not told of any more.
        if time.monotonic() >= item.read_s + FRESH_S:
            [outcome] = self._outcomes_of([record])
        if outcome is None:
            return account_event(account, record.fields, entry_id=record.id, at=record.at)
        return job_settled(
            outcome,
            entry_id=record.id,
            at=record.at,
            with_email=self._policy.with_email,
            email_hash=self._email_hash,
        )

    def _hand_over(self, item: Item, event: HookEvent) -> None:
        """In a thread of its own."""
        try:
            refused = self._receiver.send(event)
        except Exception as error:
            self._unforeseen(error)
            refused = Refused(reason=f"an unexpected error ({type(error).__name__})")
        self._results.put((item, refused))

    def _take_results(self, lease: _Lease) -> None:
        while True:
            try:
                item, refused = self._results.get_nowait()
            except queue.Empty:
                return
            if item not in lease.order.under_way:
                continue  # of a lease that was lost
            if refused is None:
                self._was_taken(lease, item)
            else:
                self._was_refused(lease, item, refused)

    def _was_taken(self, lease: _Lease, item: Item) -> None:
        item.done = True
        lease.taken += 1
        lease.progress.done |= {"taken": str(lease.taken), "taken_at": lease.redis_us()}
        if lease.failing_since is not None:
            lease.failing_since = None
            lease.progress.failing = {}
        if item.notice is not None:
            lease.progress.told, lease.notice_id = item.notice.id, None
        if item.aside is not None:
            del lease.asides[item.aside.record.name]
            lease.progress.aside.pop(item.aside.record.name, None)
            lease.progress.gone.append(item.aside.record.name)
        lease.order.taken(item)
        if self._down_said:
            self._down_said = False
            log.warning(
                "account %s: hooks: %s takes events again", self._account, self._receiver.name
            )

    def _was_refused(self, lease: _Lease, item: Item, refused: Refused) -> None:
        was_down = lease.order.is_down
        group = lease.order.refused(item, refused, time.monotonic())
        for each in group:
            self._set_aside(lease, each, refused=each is item)
        self._error = refused.reason
        if not refused.by_all:
            self._refusals += 1
            return
        at = lease.redis_us()
        lease.failing_since = lease.failing_since or at
        lease.progress.failing = {"since": lease.failing_since, "error": refused.reason, "at": at}
        if not lease.order.is_down:
            self._refusals += 1
        elif not was_down and time.monotonic() > self._down_said_s + SAY_S:
            self._down_said, self._down_said_s = True, time.monotonic()
            self._refusals = 0
            log.warning(
                "account %s: hooks: %s takes no events: %s; trying again, and deliveries go on",
                self._account,
                self._receiver.name,
                refused.reason,
            )

    def _set_aside(self, lease: _Lease, item: Item, *, refused: bool = False) -> None:
        item.done = True
        item.outcome, item.read_s = None, -FRESH_S
        record = item.record
        if record is None:  # a notice is kept as it is
            return
        before = item.aside or Aside(record=record, since_us=lease.account_us, failures=0)
        if item.aside is None or refused:
            item.aside = Aside(
                record=record, since_us=before.since_us, failures=before.failures + refused
            )
            lease.asides[record.name] = item
            lease.progress.aside[record.name] = item.aside
        if len(lease.asides) > MAX_ASIDE:
            self._give_up(lease, next(each for each in lease.asides.values() if not each.sending))

    # Dropping.

    def _drop_what_is_too_old(self, lease: _Lease, step: Step) -> None:
        retention_us = round(self._policy.retention_s * 1e6)
        for item in list(lease.asides.values()):
            since_us = item.aside.since_us if item.aside else step.account_us
            if step.account_us - since_us > retention_us and not item.sending:
                self._give_up(lease, item)
        # By both clocks, so that no step of Redis's drops anything.
        caught_up_us = int(step.fields.get("caught_up", step.account_us))
        if step.account_us - caught_up_us > retention_us:
            self._pass_over(lease, before_ms=(step.redis_us - retention_us) // 1000)
        elif step.behind is not None and step.behind > MAX_BEHIND:
            self._pass_over(lease, most=step.behind - MAX_BEHIND)

    def _give_up(self, lease: _Lease, item: Item) -> None:
        """Drop what is set aside."""
        assert item.record is not None  # noqa: S101  (else it is not aside)
        del lease.asides[item.record.name]
        lease.progress.aside.pop(item.record.name, None)
        lease.progress.too_old[item.record.name] = item.record
        lease.order.remove(item)
        self._drops += 1

    def _pass_over(
        self, lease: _Lease, *, before_ms: int | None = None, most: int | None = None
    ) -> None:
        """Drop the oldest settled jobs that nobody was told of. What is in hand is read again."""
        window = lease.windows["outcomes"]
        oldest = next((item.record for item in window if item.record), None)
        if before_ms is not None and oldest is not None and oldest.ms >= before_ms:
            return
        if any(item.sending for item in window):
            return  # the next time
        step = self._note(lease)
        if step is None:
            return
        done = [item.record.id for item in window if item.done and item.record]
        for item in window:
            if not item.done:
                lease.order.remove(item)
        window.clear()
        lease.read_to["outcomes"] = step.fields[
            "outcomes"
        ]  # if what follows fails, it is read again
        cursor, total = step.fields["outcomes"], 0
        while most is None or total < most:
            passed, cursor = self._hooks.drop(
                self._token,
                cursor,
                statuses=self._policy.statuses,
                done=done,
                before_ms=before_ms,
                most=None if most is None else most - total,
            )
            total += passed
            if not passed:
                break
        lease.read_to["outcomes"] = cursor
        lease.handled += total
        self._drops += total

    def _say(self) -> None:
        """What was refused or dropped, now and then."""
        if not (self._refusals or self._drops) or time.monotonic() < self._said_s + SAY_S:
            return
        self._said_s = time.monotonic()
        log.warning(
            "account %s: hooks: %s refused %d events (%s), which are tried again; %d were dropped",
            self._account,
            self._receiver.name,
            self._refusals,
            self._error or "nothing new",
            self._drops,
        )
        self._refusals = self._drops = 0


def start_relays(
    settings: Settings,
    client: Client,
    trouble: RedisTrouble,
    stopping: threading.Event,
    *,
    email_hash: Callable[[str], str],
) -> list[threading.Thread]:
    """A relay for each account, in a thread of its own; none where nobody is to be told.

    What happens from now on is handed over.
    """
    receiver = receiver_of(settings)
    if receiver is None:
        return []
    policy = HookPolicy(
        statuses=settings.hook_statuses,
        with_email=settings.hook_email,
        retention_s=settings.hook_retention_s,
        stop_within_s=settings.hook_timeout_s,
    )
    threads = []
    for account in settings.accounts:
        keys = Keys(account)
        hooks = Hooks(client, keys)
        # Nothing is settled before Redis is well.
        with suppress(RedisError), shortly(client):
            hooks.begin()
        relay = HookRelay(
            account,
            hooks=hooks,
            outcomes=Outcomes(client, keys),
            receiver=receiver,
            policy=policy,
            trouble=trouble,
            email_hash=email_hash,
        )
        name = f"hooks-{account}"
        thread = threading.Thread(target=relay.run, args=(stopping,), name=name, daemon=True)
        thread.start()
        threads.append(thread)
    log.info("what becomes of jobs is told to %s", receiver.name)
    return threads


class _Lease:
    """What a relay has in hand while it has the lease."""

    def __init__(self, step: Step) -> None:
        self.order = Order()
        self.windows: dict[str, deque[Item]] = {"outcomes": deque(), "events": deque()}
        """What was read and is not done, in the order of each stream."""
        self.asides: dict[str, Item] = {}
        self.progress = Progress()
        """What is to be noted."""
        self.read_to = {stream: step.fields[stream] for stream in self.windows}
        self.taken = int(step.fields.get("taken", 0))
        self.failing_since = step.fields.get("failing_since")
        self.notice_id: str | None = None
        """Of the notice in hand."""
        self.noted_s = self.watched_s = -WATCH_S
        self._events_n = int(step.fields.get("events_n", 0))
        self.noted(step)

    def noted(self, step: Step) -> None:
        """A step was made with `progress`."""
        self.progress = Progress()
        self.handled = int(step.fields.get("handled", 0))
        self.account_us = step.account_us
        self._redis_us, self._at_s = step.redis_us, time.monotonic()

    def redis_us(self) -> str:
        """Redis's time now, as far as it is known."""
        return str(self._redis_us + round((time.monotonic() - self._at_s) * 1e6))

    def room(self) -> int:
        """How many entries may be read of each stream."""
        return max(0, WINDOW - max(map(len, self.windows.values())))

    def read(self, item: Item) -> None:
        """An entry was read."""
        assert item.record is not None  # noqa: S101
        self.read_to[item.record.stream] = item.record.id
        self.windows[item.record.stream].append(item)

    def find_gap(self, records: Iterable[Record]) -> None:
        """Whether the stream of events has lost some, since it is capped."""
        for record in records:
            if record.stream == "events" and "n" in record.fields:
                n = int(record.fields["n"])
                if n > self._events_n + 1:
                    self.progress.missed = (n - self._events_n - 1, record)
                self._events_n = n

    def noting(self) -> Progress:
        """What is to be noted now, with how far the streams are done. May be asked for again."""
        done = self.progress.done
        for stream, window in self.windows.items():
            while window and window[0].done:
                passed = window.popleft().record
                assert passed is not None  # noqa: S101
                done[stream] = passed.id
                if stream == "events":
                    done["events_n"] = passed.fields.get("n", "0")
                else:
                    self.handled += 1
                    done["handled"] = str(self.handled)
        return self.progress


def _group(outcome: Outcome | None) -> str:
    if outcome is None:
        return ACCOUNT
    return mailbox_id_of(outcome.email) if outcome.email else f"job {outcome.job_id}"


def _is_of(outcome: Outcome | None, record: Record) -> bool:
    """Whether an outcome is the one that this entry was written for, and no later one."""
    if outcome is None or outcome.status != record.status or outcome.settled_at is None:
        return False
    return outcome.settled_at.timestamp() * 1000 <= record.ms + _SAME_STEP_MS


def _place(error: Exception) -> str:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return f"{last.tb_frame.f_code.co_name}, line {last.tb_lineno}" if last else "nowhere"

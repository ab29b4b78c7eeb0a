"""The mailboxes of an account, and who may deliver what and when.

Each method is one transition, and each transition one Lua script in `lua/`: it happens whole or not
at all, and it may be repeated, since redis-py repeats a command whose answer was lost. Time is
Redis's own. `lua/_mailbox.lua` says how a mailbox is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from ..jobs.job import EPOCH, AttributeJob, time_of
from ..jobs.outcome import Outcome
from .attribute_form import digest_of, payload_of, value_of
from .claims import (
    AccountNews,
    Claim,
    Idle,
    JobResult,
    Limits,
    Next,
    PendingJob,
    Settled,
    Settlement,
    Staged,
    Value,
    Wait,
)
from .inbox import Taken
from .keys import Keys
from .outcomes import outcome_of
from .scripts import Script

GATHER_S = 5
"""Seconds in which a bulk email gathers jobs while more come in: a table with many rows for an
email is few requests."""


class Mailboxes:
    """One account's mailboxes. All methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        limits: what the account may spend.
        retention_s: seconds that outcomes and delivered versions are kept.
        keep_s: seconds that outcomes are kept that ended well.
        strict_types: whether a key must keep the type that was first used for it.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        limits: Limits,
        retention_s: int,
        keep_s: int | None = None,
        strict_types: bool = False,
    ) -> None:
        self._account = keys.account
        self._limits = limits
        self._kept = {"retention_s": retention_s, "keep_s": keep_s or retention_s}
        self._strict = strict_types
        self._stage = Script(client, keys.prefix, "stage")
        self._claim = Script(client, keys.prefix, "claim")
        self._settle = Script(client, keys.prefix, "settle")
        self._give_back = Script(client, keys.prefix, "give_back")

    def stage(self, jobs: Sequence[tuple[Taken, AttributeJob]]) -> list[Staged]:
        """Move jobs from the inbox to their mailboxes: one after the other, in one round trip."""
        worker_us = time.time_ns() // 1000
        answers = self._stage.batch(
            [self._stage_args(taken, job, worker_us) for taken, job in jobs]
        )
        return [_staged(answer) for answer in answers]

    def _stage_args(self, taken: Taken, job: AttributeJob, worker_us: int) -> dict[str, object]:
        when = {"arrived": taken.arrived_us}
        if job.occurred_at is not None:
            when["occurred"] = (job.occurred_at - EPOCH) // _MICROSECOND
        attributes = [
            {
                "key": attribute.key,
                "type": attribute.type,
                "payload": payload_of(attribute),
                "digest": digest_of(attribute) if job.only_changed else "",
            }
            for attribute in job.attributes
        ]
        return {
            "job": job.job_id,
            "taken": taken.entry,
            "email": job.email,
            "mailbox": job.mailbox_id,
            "lane": job.lane,
            "worker_us": worker_us,
            "attributes": attributes,
            "strict": self._strict,
            "only_changed": job.only_changed,
            **when,
            **self._kept,
        }

    def claim(self, stint: str, *, reserved: str | None = None) -> Next:
        """Reserve the time of a stint's next request, or, when it has come, claim an email.

        Args:
            stint: a short text that no other stint has.
            reserved: of the `Wait` that was answered before.
        """
        asked_s = time.monotonic()
        answer = self._claim(next=self._next_args(stint, reserved), **self._kept)
        return _next(json.loads(answer), asked_s)

    def settle(
        self, claim: Claim, settlement: Settlement, news: AccountNews, *, stint: str | None
    ) -> Settled:
        """Carry out all that follows from an answer, in one step.

        Args:
            stint: which goes on with its next delivery; None if it ends.
        """
        asked_s = time.monotonic()
        before = {job.job_id: job.fields for job in claim.jobs}
        arg: dict[str, object] = {
            "mailbox": claim.mailbox_id,
            "token": claim.token,
            "retry_us": round(settlement.retry_s * 1e6),
            "rest_us": round(settlement.rest_s * 1e6),
            "failures": settlement.failures,
            "batch": settlement.batch,
            "waits": settlement.waits,
            "answer": self._answer_args(claim, news),
            "values": [_settled_value(value, settlement) for value in claim.values],
            "jobs": [
                {
                    "id": job.job_id,
                    "status": job.status,
                    "fields": _changed(job, before.get(job.job_id, {})),
                    "failed": job.failed_alone,
                }
                for job in settlement.jobs
            ],
        }
        if stint is not None:
            arg["next"] = self._next_args(stint, None)
        answer = json.loads(self._settle(**arg, **self._kept))
        held = bool(answer["held"])
        following = answer.get("next")
        return Settled(
            held=held,
            paused=bool(answer["paused"]),
            outcomes=self._outcomes(claim, settlement, answer) if held else (),
            next=_next(following, asked_s) if following else None,
        )

    def give_back(self, claim: Claim) -> bool:
        """End a lease whose request was not sent: its email is due as before.

        False when the lease had ended.
        """
        return bool(self._give_back(mailbox=claim.mailbox_id, token=claim.token))

    def _next_args(self, stint: str, reserved: str | None) -> dict[str, object]:
        limits = self._limits
        arg: dict[str, object] = {
            "stint": stint,
            "rate_limit": limits.rate_limit,
            "max_parallel": limits.max_parallel,
            "lease_us": round(limits.lease_s * 1e6),
            "bulk_share": limits.bulk_share,
            "gather_us": GATHER_S * 1_000_000,
            "max_attributes": limits.max_attributes,
            "max_bytes": limits.max_bytes,
        }
        return arg if reserved is None else arg | {"reserved": reserved}

    def _answer_args(self, claim: Claim, news: AccountNews) -> dict[str, object]:
        arg: dict[str, object] = {
            "kind": news.kind,
            "class": news.attempt_class,
            "claimed_us": claim.account_us,
            "rate_limit": self._limits.rate_limit,
            "reason": news.reason,
            "fresh": claim.failures == 0,
        }
        if news.took_s:
            arg["took_us"] = round(news.took_s * 1e6)
        if news.kind == "account":
            arg["code"] = news.code
            arg["probe_delays_us"] = [round(delay_s * 1e6) for delay_s in news.probe_delays_s]
        if news.retry_after_s is not None:
            arg["retry_after_us"] = round(news.retry_after_s * 1e6)
        return arg

    def _outcomes(
        self, claim: Claim, settlement: Settlement, answer: Mapping[str, Any]
    ) -> tuple[Outcome, ...]:
        before = {job.job_id: job.fields for job in claim.jobs}
        open_jobs = answer["open"] or ()
        found = []
        for job in settlement.jobs:
            fields = {**before.get(job.job_id, {})}
            fields |= _changed(job, fields)
            fields.pop("next", None)
            if job.status != "pending" and job.job_id not in open_jobs:
                fields |= {"status": job.status, "settled": answer["settled_us"]}
            elif due_us := answer.get("due_us"):
                fields["next"] = due_us
            found.append(outcome_of(job.job_id, self._account, fields))
        return tuple(found)


def _staged(answer: str | Exception) -> Staged:
    if isinstance(answer, Exception):
        return Staged(result="error", mistyped=str(answer))
    found = json.loads(answer)
    return Staged(
        result=found["result"],
        superseded=tuple(found["superseded"] or ()),
        mistyped=found["mistyped"],
    )


def _next(answer: Mapping[str, Any], asked_s: float) -> Next:
    superseded, damaged = tuple(answer["superseded"] or ()), int(answer["damaged"])
    match answer["kind"]:
        case "wait":
            return Wait(
                reserved=answer["reserved"],
                wait_s=float(answer["wait_us"]) / 1e6,
                superseded=superseded,
                damaged=damaged,
            )
        case "idle":
            return Idle(why=answer["why"], superseded=superseded, damaged=damaged)
    jobs = [_pending(job) for job in answer["jobs"]]
    return Claim(
        mailbox_id=answer["mailbox"],
        token=answer["token"],
        email=jobs[-1].fields["email"],  # as the newest job spells it
        now_us=int(answer["redis_us"]),
        account_us=int(answer["account_us"]),
        claimed_s=asked_s,
        answered_s=time.monotonic(),
        values=tuple(value_of(value) for value in answer["values"]),
        unsent=tuple(value_of(value) for value in answer["unsent"] or ()),
        jobs=tuple(jobs),
        failures=int(answer["failures"]),
        batch=int(answer["batch"]),
        ask=bool(answer["ask"]),
        inbox=bool(answer["inbox"]),
        superseded=superseded,
        damaged=damaged,
    )


def _pending(job: Mapping[str, Any]) -> PendingJob:
    flat = job["fields"]
    fields: dict[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
    since = fields.get("failing_since")
    return PendingJob(
        job_id=job["id"],
        lane="bulk" if fields.get("lane") == "bulk" else "live",
        attempts=int(fields.get("attempts", 0)),
        unmatched=int(fields.get("unmatched", 0)),
        unmatched_until_us=int(fields.get("unmatched_until", 0)),
        unconfirmed=int(fields.get("unconfirmed", 0)),
        unconfirmed_until_us=int(fields.get("unconfirmed_until", 0)),
        sent_us=int(fields.get("sent", 0)),
        failing_since_us=int(since) if since else None,
        failed_alone=bool(job["failed"]),
        fields=fields,
    )


def _changed(job: JobResult, before: Mapping[str, str]) -> dict[str, str]:
    """A job's new fields. An empty one is needed only to clear what an attempt before left."""
    fields = {name: str(content) for name, content in job.fields.items()}
    return {name: content for name, content in fields.items() if content or before.get(name)}


def _settled_value(value: Value, settlement: Settlement) -> dict[str, str]:
    key = value.attribute.key
    took = "-" if key in settlement.taken else ""
    if key in settlement.seen:
        took = digest_of(value.attribute)
    return {"key": key, "version": value.version, "took": took}


_MICROSECOND = time_of(1) - time_of(0)

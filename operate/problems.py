"""What is wrong, in words: the one place that decides it, for every command, page and alert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ..jobs.text import counted
from ..state.account import AccountStatus
from ..state.health import RedisHealth
from ..state.hooks import BACKLOG_OLD_S, HookStatus
from ..state.layout import LAYOUT

MAX_AGE_S = BACKLOG_OLD_S
"""Jobs that wait longer than this are a problem, unless somebody chose another limit."""
FRESH_S = 300.0
"""A step of Redis's clock is an error for so long, and a warning after that."""
QUIET_S = 10.0
"""While jobs wait, a time without any delivery that is longer is a problem."""
FEW = 0.1
"""A smaller share of free memory than this is a problem."""
FULL = 0.01
MANY_FAILED = 0.1
"""A greater share of jobs that ended badly within the hour is a problem."""
ENOUGH = 20
"""Of fewer jobs, a share says nothing."""

_NO_HOOKS: Mapping[str, HookStatus] = MappingProxyType({})
_NOTHING_AWAY: Mapping[str, str] = MappingProxyType({})

Code = Literal[
    "shard_away",
    "redis_full",
    "redis_evicts",
    "layout",
    "no_worker",
    "few_workers",
    "paused",
    "circuit_open",
    "failing",
    "nothing_delivered",
    "backlog_old",
    "backlog_large",
    "clock_step",
    "redis_nearly_full",
    "redis_not_persistent",
    "redis_save_failed",
    "held",
    "failure_share",
    "hook_failing",
]
"""The most urgent first. `docs/troubleshooting.md` says what to do about each."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    code: Code
    level: Literal["error", "warning"]
    """`error`: attributes do not arrive, or may be lost."""
    account: str | None
    """None: it concerns all accounts."""
    text: str
    """What is wrong and why, as one sentence without its full stop."""
    hint: str
    """What to do."""


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """What counts as too much, or too little."""

    max_age_s: float
    max_waiting: int | None
    min_workers: int


def problems(
    accounts: Sequence[AccountStatus],
    *redis: RedisHealth,
    hooks: Mapping[str, HookStatus] = _NO_HOOKS,
    away: Mapping[str, str] = _NOTHING_AWAY,
    max_age_s: float = MAX_AGE_S,
    max_waiting: int | None = None,
    min_workers: int = 1,
) -> list[Problem]:
    """All that is wrong now, the most urgent first.

    Args:
        accounts: how each account stands.
        redis: how Redis is; of a cluster, each of its nodes.
        hooks: account → how its hooks stand, where it has any.
        away: account → why its part of a cluster cannot be asked, in words.
        max_age_s: jobs may wait for so many seconds.
        max_waiting: so many jobs and emails of an account may wait; None for any number.
        min_workers: so many workers serve each account, at least; 0 where none need to.
    """
    limits = _Limits(max_age_s=max_age_s, max_waiting=max_waiting, min_workers=min_workers)
    found = [problem for each in redis for problem in _of_redis(each)]
    found += [_away(account, why) for account, why in away.items()]
    full = any(problem.code == "redis_full" for problem in found)
    for account in accounts:
        found += _of_account(account, limits, full=full)
        if (hook := hooks.get(account.account)) is not None:
            found += _of_hooks(account, hook)
    order = get_args(Code)
    return sorted(found, key=lambda problem: order.index(problem.code))


def _away(account: str, why: str) -> Problem:
    return Problem(
        code="shard_away",
        level="error",
        account=account,
        text=f"its shard of the cluster does not work, so nothing is taken or delivered: {why}",
        hint="look at that node: is it down, and has it a replica? Other accounts go on",
    )


def _of_redis(redis: RedisHealth) -> Iterator[Problem]:
    name = f"Redis at {redis.node}" if redis.node else "Redis"
    if redis.evicts:
        lost = f"; {redis.evicted_keys:,} keys are gone already" if redis.evicted_keys else ""
        yield Problem(
            code="redis_evicts",
            level="error",
            account=None,
            text=f"{name} throws jobs away when its memory is full (maxmemory-policy "
            f"{redis.policy}){lost}",
            hint="run in Redis: CONFIG SET maxmemory-policy noeviction, and write it into its "
            "configuration",
        )
    elif redis.head_room is not None and redis.head_room <= FULL:
        yield Problem(
            code="redis_full",
            level="error",
            account=None,
            text=f"{name} is full: it uses {_mib(redis.used_bytes)} of "
            f"{_mib(redis.maxmemory_bytes)}, and takes no job",
            hint="raise its maxmemory, or take other data out of it; nothing is lost meanwhile "
            "that was accepted",
        )
    elif redis.head_room is not None and redis.head_room < FEW:
        yield Problem(
            code="redis_nearly_full",
            level="warning",
            account=None,
            text=f"{name} is nearly full: {_mib(redis.used_bytes)} of "
            f"{_mib(redis.maxmemory_bytes)} are used",
            hint="raise its maxmemory, or keep outcomes for a shorter time "
            "(COURIER_RETENTION, COURIER_KEEP_DELIVERED)",
        )
    if redis.persists is False:
        yield Problem(
            code="redis_not_persistent",
            level="warning",
            account=None,
            text=f"{name} keeps its data in memory only: when it restarts, all jobs are lost",
            hint="run in Redis: CONFIG SET appendonly yes, and write it into its configuration",
        )
    if redis.save_failed:
        yield Problem(
            code="redis_save_failed",
            level="error",
            account=None,
            text=f"{name} could not write its data to disk the last time",
            hint="look into Redis's log: is its disk full?",
        )


def _of_account(account: AccountStatus, limits: _Limits, *, full: bool) -> Iterator[Problem]:
    def problem(code: Code, level: Literal["error", "warning"], text: str, hint: str) -> Problem:
        return Problem(code=code, level=level, account=account.account, text=text, hint=hint)

    waits = (
        f"jobs and emails waiting: {account.waiting:,}" if account.waiting else "nothing waits yet"
    )
    if account.layout not in (None, LAYOUT):
        yield problem(
            "layout",
            "error",
            f"the keys in Redis have layout {account.layout!r}, and this release reads {LAYOUT!r}",
            "run the release that wrote them, or give this one another Redis database",
        )
    if not account.workers and limits.min_workers and not full:  # a full Redis takes no beat
        yield problem(
            "no_worker",
            "error",
            f"no worker serves this account; {waits}",
            "start one with `courier worker`; it needs the account's name and API key",
        )
    elif len(account.workers) < limits.min_workers and not full:
        yield problem(
            "few_workers",
            "error",
            f"only {len(account.workers)} of at least {limits.min_workers} workers serve this "
            f"account; {waits}",
            "start more with `courier worker`, or look why some ended",
        )
    if account.pause:
        by = "by hand" if account.pause.by == "operator" else _paused_by(account.pause.code)
        yield problem(
            "paused",
            "error",
            f"deliveries are paused {by}: {account.pause.reason}; {waits}",
            "`courier resume`"
            if account.pause.by == "operator"
            else "mend what the reason says; a ping is tried at intervals, or run `courier resume`",
        )
    elif account.circuit:
        yield problem(
            "circuit_open",
            "error",
            f"ChartMogul fails for all emails: {account.circuit.reason}; one delivery at a time "
            f"tries whether it works again; {waits}",
            "nothing, if ChartMogul is down; else look at the way there with `courier ping`",
        )
    elif account.failing_in_a_row:
        emails = "email" if account.failing_in_a_row == 1 else "emails"
        yield problem(
            "failing",
            "error" if account.failing_in_a_row > 2 else "warning",
            f"the server failed for {account.failing_in_a_row} {emails} in a row, with no success "
            f"since: {account.failing_reason}",
            "nothing, if ChartMogul is down; else look at the way there with `courier ping`",
        )
    lane, oldest_s = max(
        (("live", account.oldest_s("live")), ("bulk", account.oldest_s("bulk"))),
        key=lambda each: each[1],
    )
    stopped = account.pause or account.circuit or not account.workers or full
    silent_s = QUIET_S
    if account.last_delivered_at is not None:
        silent_s = (account.at - account.last_delivered_at).total_seconds()
    fresh = account.live.due + account.bulk.due + account.inbox
    if fresh and not stopped and min(silent_s, oldest_s) >= QUIET_S and not account.held_for_s:
        yield problem(
            "nothing_delivered",
            "error",
            f"nothing was delivered for {_ago(min(silent_s, oldest_s))}, although {waits}",
            "look into the workers' log; `courier outcomes --status pending` says why jobs wait",
        )
    if oldest_s > limits.max_age_s:
        yield problem(
            "backlog_old",
            "error",
            f"the first {lane} job has been waiting for {_ago(oldest_s)}; {waits}",
            "if nothing else is wrong, more comes in than the account's limit lets out",
        )
    if limits.max_waiting is not None and account.waiting > limits.max_waiting:
        yield problem(
            "backlog_large",
            "error",
            f"{waits}, more than {limits.max_waiting:,}",
            "if nothing else is wrong, more comes in than the account's limit lets out",
        )
    if step := account.clock_step:
        direction = "ahead" if step.step_s > 0 else "back"
        yield problem(
            "clock_step",
            "error" if abs((account.at - step.at).total_seconds()) < FRESH_S else "warning",
            f"Redis's clock stepped {direction} by {abs(step.step_s):.1f} s at "
            f"{step.at:%Y-%m-%d %H:%M:%S} UTC",
            "keep its machine's clock in step (NTP); deliveries go on",
        )
    if account.held_for_s:
        yield problem(
            "held",
            "warning",
            f"ChartMogul asked for fewer requests (429); {account.held_for_s:.1f} s more",
            "nothing; if it comes often, who else uses the account's 40 requests a second?",
        )
    ended = sum(account.last_hour.values())
    bad = sum(
        account.last_hour.get(status, 0) for status in ("invalid", "refused", "failed", "unmatched")
    )
    if ended >= ENOUGH and bad > MANY_FAILED * ended:
        yield problem(
            "failure_share",
            "warning",
            f"{bad:,} of {ended:,} jobs that were settled within the hour ended badly",
            "`courier outcomes --count --since 1h` counts them by reason",
        )


def _paused_by(code: str | None) -> str:
    if code == "own_side":
        return "since the way to ChartMogul failed"
    return "by ChartMogul's answer" + (f" (HTTP {code})" if code and code.isdigit() else "")


def _of_hooks(account: AccountStatus, hook: HookStatus) -> Iterator[Problem]:
    if hook.failing_since is None:
        return
    for_s = (account.at - hook.failing_since).total_seconds()
    dropped = f"; dropped: {hook.dropped:,}" if hook.dropped else ""
    yield Problem(
        code="hook_failing",
        level="warning",
        account=account.account,
        text=f"the receiver of hooks has taken nothing for {_ago(max(0.0, for_s))}: {hook.error}; "
        f"{counted(hook.behind or 0, 'job')} still to be told{dropped}",
        hint="mend the receiver; deliveries go on, and what waits is told then (docs/hooks.md)",
    )


def _mib(count: int | None) -> str:
    return f"{(count or 0) / 1024**2:,.0f} MiB"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

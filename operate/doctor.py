"""Looks at everything that deliveries need, and says what was found and what to do.

Each part is looked at although another one is broken. Nothing is changed, but where a repair is
asked for.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from ..config import Settings, SettingsError
from ..config.connections import Client, connect_briefly, sentinels_of
from ..config.redis_errors import RedisError
from ..config.redis_url import written_node
from ..config.rights import needed_rights
from ..config.settings import load_despite_faults
from ..jobs.text import counted
from ..state.account import AccountStatus
from ..state.clock import redis_time
from ..state.health import RedisHealth
from ..state.keys import Keys
from ..state.repair import find_foreign_inboxes, find_stranded, repair
from ..state.rights import missing_rights
from ..state.shards import ask_each, one_of_each
from .findings import Finding, Level
from .picture import Picture, look
from .reach import as_finding, broker, chartmogul, network, redis_fitness, unreachable

NEEDED = (6, 2)
"""The oldest version of Redis that works. Valkey's versions go on from 7.2."""
SLOW_S = 0.02
"""A round trip to Redis that takes longer slows deliveries down: each needs one or two."""
FAR_S = 2.0
"""A difference between the clocks of Redis and this machine that is worth a word."""
LOOK_FOR_S = 10.0
"""The longest look for what nothing points to, for each account."""


def examine(*, repairs: bool = False) -> Iterator[Finding]:
    """All findings, one part after the other.

    Args:
        repairs: whether what nothing points to is made due again.
    """
    settings, faulty = None, set[str]()
    for finding, found, names in _settings():
        settings, faulty = found or settings, faulty | names
        yield finding
    if settings is None:
        return
    if "COURIER_REDIS_URL" in faulty:
        yield _skipped("Redis", "COURIER_REDIS_URL cannot be read")
    else:
        yield from _redis_and_what_is_in_it(
            settings, repairs=repairs, broker_is_known="COURIER_BROKER_URL" not in faulty
        )
    yield from _network(settings)
    if faulty & {"CHARTMOGUL_API_URL", "COURIER_ACCOUNT", "COURIER_ACCOUNTS"}:
        yield _skipped("ChartMogul", "its settings cannot be read")
        return
    for account in settings.accounts:
        try:
            yield chartmogul(settings, account)
        except SettingsError as error:
            yield Finding(
                part="ChartMogul",
                what=f"account {account}",
                level="error",
                text=str(error),
                hint="workers need it; applications that only add jobs do not",
                kind="settings",
            )


def _skipped(part: str, why: str) -> Finding:
    return Finding(part=part, what="all", level="skipped", text=f"not looked at: {why}")


def _settings() -> Iterator[tuple[Finding, Settings | None, set[str]]]:
    settings, faults = load_despite_faults()
    for fault in faults:
        yield (
            Finding(
                part="Settings",
                what=", ".join(fault.variables) or "all",
                level="error",
                text=fault.text.removeprefix("".join(fault.variables)).lstrip(": "),
                hint="correct or unset it; docs/settings.md has each variable",
                kind="settings",
            ),
            None,
            set(fault.variables),
        )
    if settings is not None:
        read = sorted(n for n in os.environ if n.startswith(("COURIER_", "CHARTMOGUL_")))
        names = ", ".join(settings.accounts)
        text = f"accounts: {names}; set here: {', '.join(read) or 'nothing, all are defaults'}"
        yield Finding(part="Settings", what="read", level="ok", text=text), settings, set()


# --- Redis ----------------------------------------------------------------------------------------


def _redis_and_what_is_in_it(
    settings: Settings, *, repairs: bool, broker_is_known: bool
) -> Iterator[Finding]:
    client = connect_briefly(settings)
    try:
        yield from _sentinels(client)
        found, redis_version = redis_fitness(client, settings)
        yield from (each for each in found if each.what in ("answer", "keys"))
        if any(each.what == "answer" for each in found) and not _answers(client):
            for part in ("Broker", "Workers", "State"):
                yield _skipped(part, "Redis does not answer")
            return
        picture = _picture(client, settings)
        nodes = (picture.nodes or (picture.redis,)) if picture else (RedisHealth(),)
        # What is a problem is told as such, in its part; beside it stands what is well.
        told = [as_finding(problem) for problem in picture.problems] if picture else []
        for redis in nodes:
            yield from _server(settings, redis, redis_version)
            yield from _coverage(redis)
            yield from _replicas(settings, redis)
            yield from _memory(redis)
        yield from (each for each in told if each.part == "Redis")
        yield from _rights(client, settings)
        for node, account in one_of_each(client, settings.accounts).items():
            try:
                yield from _times(client, node, account)
            except RedisError:
                if not node:  # else it was told as a problem of its accounts
                    raise
        yield from (each for each in told if each.part == "Time")
        if broker_is_known:
            yield broker(settings)
        else:
            yield _skipped("Broker", "COURIER_BROKER_URL cannot be read")
        yield from (each for each in told if each.part == "Workers")
        if picture:
            yield from _workers(picture)
        yield from (each for each in told if each.part == "Deliveries")
        for account in settings.accounts:
            if picture and _status_of(picture, account) is None:
                yield _skipped("State", f"the shard of account {account} does not work")
            else:
                yield from _state(client, account, repairs=repairs, picture=picture)
        yield from _foreign_inboxes(client, settings.accounts)
        yield from (each for each in told if each.part == "State")
    except RedisError as error:
        yield unreachable(settings, error)
    finally:
        client.close()


def _sentinels(client: Client) -> Iterator[Finding]:
    """Who of the Sentinels answers, and which primary they name."""
    sentinels = sentinels_of(client)
    if sentinels is None:
        return
    found = sentinels.ask_all()
    primaries = {primary for _, primary in found.named.values()}
    said = [
        f"{written_node(node)} names {written_node(primary)} as the primary"
        for node, (_, primary) in found.named.items()
    ]
    said += [
        f"{written_node(node)} {sentinels.in_words(fault)}" for node, fault in found.faults.items()
    ]
    hint = ""
    if found.faults:
        hint = "see to it that all Sentinels of COURIER_REDIS_URL run, and know the primary"
    elif len(primaries) > 1:
        hint = "in a failover they agree after some seconds; if not, look at their logs"
    level: Level = "error" if not found.named else "warning" if hint else "ok"
    yield Finding(part="Redis", what="sentinels", level=level, text="; ".join(said), hint=hint)


def _replicas(settings: Settings, redis: RedisHealth) -> Iterator[Finding]:
    """Whether there are as many as enqueueing waits for."""
    wanted = settings.wait_replicas
    if not wanted or redis.replicas is None:
        return
    few = redis.replicas < wanted
    yield Finding(
        part="Redis",
        what="replicas",
        level="error" if few else "ok",
        text=f"{_at(redis.node)}enqueueing waits for {wanted} (COURIER_WAIT_REPLICAS), and "
        f"{redis.replicas} are connected",
        hint="until there are as many, every job is told to its producer as an error: see why "
        "they are gone"
        if few
        else "",
    )


def _answers(client: Client) -> bool:
    """Whether it answers at all, if only with errors."""
    try:
        client.ping()
    except RedisError:
        return False
    return True


def _picture(client: Client, settings: Settings) -> Picture | None:
    try:
        return look(client, settings)
    except RedisError:  # it was told as `redis_fitness` met it
        return None


def _server(settings: Settings, redis: RedisHealth, redis_version: str) -> Iterator[Finding]:
    shown = redis.version or redis_version
    if shown:
        old = _version(shown) < NEEDED
        yield Finding(
            part="Redis",
            what="version",
            level="error" if old else "ok",
            text=f"{shown} at {redis.node or settings.redis_address}; "
            f"{NEEDED[0]}.{NEEDED[1]} or newer is needed",
            hint="upgrade it, or use another one" if old else "",
        )
    if redis.role or redis.mode:
        replica = redis.role == "slave"
        replicas = f", {redis.replicas} replicas" if redis.replicas else ""
        yield Finding(
            part="Redis",
            what="form",
            level="error" if replica else "ok",
            text=f"{_at(redis.node)}{'a replica' if replica else 'a primary'} "
            f"({redis.mode or 'form unknown'}{replicas})",
            hint="COURIER_REDIS_URL must lead to the primary" if replica else "",
        )


def _at(node: str) -> str:
    return f"{node}: " if node else ""


def _coverage(redis: RedisHealth) -> Iterator[Finding]:
    """Of a cluster, what a shard does to the others that is down."""
    if redis.full_coverage is None:
        return
    yield Finding(
        part="Redis",
        what="coverage",
        level="warning" if redis.full_coverage else "ok",
        text=f"{_at(redis.node)}a shard that is down "
        + ("stops all accounts" if redis.full_coverage else "stops its own accounts alone"),
        hint="run on each node: CONFIG SET cluster-require-full-coverage no, and write it into its "
        "configuration"
        if redis.full_coverage
        else "",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _memory(redis: RedisHealth) -> Iterator[Finding]:
    """What is well, and what is no problem yet; problems are told with all others."""

    def finding(what: str, level: Level, text: str, hint: str = "") -> Finding:
        text = _at(redis.node) + text
        return Finding(part="Redis", what=what, level=level, text=text, hint=hint)

    if redis.policy is None:
        yield finding(
            "eviction",
            "warning",
            "it does not tell its maxmemory-policy to this user",
            "see to it that it is noeviction: any other one can lose jobs. The right +info lets "
            "it be read",
        )
    elif redis.policy != "noeviction" and not redis.evicts:
        yield finding(
            "eviction",
            "warning",
            f"maxmemory-policy is {redis.policy}: it throws nothing away while it has no "
            "maxmemory, and jobs once it has one",
            "run in Redis: CONFIG SET maxmemory-policy noeviction",
        )
    elif not redis.evicts:
        yield finding("eviction", "ok", "maxmemory-policy is noeviction")
    if redis.used_bytes is not None:
        used = f"{redis.used_bytes / 1024**2:,.1f} MiB used"
        if redis.head_room is None:
            yield finding("memory", "ok", f"{used}, no maxmemory: the machine's memory is the end")
        elif redis.head_room >= 0.1:
            yield finding("memory", "ok", f"{used}, {redis.head_room:.0%} of its maxmemory is free")
    if redis.persists is None:
        yield finding(
            "persistence",
            "warning",
            "it does not tell whether its data outlives a restart",
            "see to it that appendonly is yes, or that the service keeps the data",
        )
    elif redis.append_only:
        yield finding("persistence", "ok", "an append-only file")
    elif redis.persists:
        yield finding(
            "persistence",
            "warning",
            "snapshots only: a crash of Redis loses the jobs of the last minutes",
            "run in Redis: CONFIG SET appendonly yes, and write it into its configuration",
        )


def _rights(client: Client, settings: Settings) -> Iterator[Finding]:
    try:
        found, _ = ask_each(
            client,
            list(one_of_each(client, settings.accounts).values()),
            lambda account: missing_rights(client, Keys(account), settings.redis),
        )
    except RedisError:  # not of rights; told above
        return
    producers, workers = (
        list(dict.fromkeys(right for each in found.values() for right in each[kind]))
        for kind in (0, 1)
    )
    user = settings.redis.username or "default"
    if producers or workers:
        producer, worker = needed_rights(settings.redis)
        who = "a producer or worker" if producers else "a worker, Flower or this command"
        yield Finding(
            part="Redis",
            what="rights",
            level="error",
            text=f"the user {user!r} lacks what {who} needs: {', '.join(producers + workers)}",
            hint=f"ACL SETUSER {user} {worker} (a producer needs only: {producer})",
        )
    else:
        yield Finding(
            part="Redis",
            what="rights",
            level="ok",
            text=f"the user {user!r} may do all that is needed",
        )


def _times(client: Client, node: str, account: str) -> Iterator[Finding]:
    took, ahead = [], []
    for _ in range(5):
        asked_s, asked_at_s = time.monotonic(), time.time()
        redis_s = redis_time(client, Keys(account)).timestamp()
        took.append(time.monotonic() - asked_s)
        ahead.append(redis_s - asked_at_s - took[-1] / 2)
    trip_s, ahead_s = statistics.median(took), statistics.median(ahead)
    slow = trip_s > SLOW_S
    yield Finding(
        part="Redis",
        what="latency",
        level="warning" if slow else "ok",
        text=f"{_at(node)}a round trip takes {trip_s * 1000:.1f} ms",
        hint="a delivery needs one or two: run workers nearer to Redis" if slow else "",
    )
    far = abs(ahead_s) > FAR_S
    direction = "ahead of" if ahead_s > 0 else "behind"
    yield Finding(
        part="Time",
        what="clocks",
        level="warning" if far else "ok",
        text=f"{_at(node)}Redis's clock is {abs(ahead_s):.1f} s {direction} this machine's"
        if far
        else f"{_at(node)}Redis's clock and this machine's agree",
        hint="keep both machines' clocks in step (NTP): jobs without occurred_at are ordered by "
        "Redis's clock, others by that of whoever made them"
        if far
        else "",
    )


# --- workers and state ----------------------------------------------------------------------------


def _workers(picture: Picture) -> Iterator[Finding]:
    workers = {worker.id: worker for each in picture.accounts for worker in each.workers}
    if not workers:
        return  # a problem, told above
    here = version("attribute-courier")
    versions = Counter(worker.version for worker in workers.values())
    shown = ", ".join(f"{count} of version {name}" for name, count in sorted(versions.items()))
    differ = set(versions) != {here}
    yield Finding(
        part="Workers",
        what="versions",
        level="warning" if differ else "ok",
        text=f"{shown}; this command is {here}" if differ else f"{shown}, as this command",
        hint="run one version everywhere once a roll-out is done" if differ else "",
    )
    names = Counter(worker.name for worker in workers.values())
    if twice := [name for name, count in names.items() if count > 1]:
        yield Finding(
            part="Workers",
            what="names",
            level="warning",
            text=f"several workers have one name: {', '.join(twice)}",
            hint="give each its own (`courier worker --name second@%h`): Flower mixes them up",
        )
    for worker in workers.values():
        served = [each.account for each in picture.accounts if worker in each.workers]
        if len(served) < len(picture.accounts):
            yield Finding(
                part="Workers",
                what=worker.name,
                level="warning",
                text=f"serves only {', '.join(served)}",
                hint="all workers that share a Redis need the same COURIER_ACCOUNTS",
            )


def _state(
    client: Client, account: str, *, repairs: bool, picture: Picture | None
) -> Iterator[Finding]:
    def finding(level: Level, text: str, hint: str = "") -> Finding:
        return Finding(part="State", what=f"account {account}", level=level, text=text, hint=hint)

    keys = Keys(account)
    if repairs:
        repaired = repair(client, keys, at_start=True)
        if repaired and (repaired.mailboxes or repaired.jobs):
            yield finding(
                "ok",
                f"repaired: {repaired} that nothing pointed to; what they hold is delivered now",
            )
    found = find_stranded(client, keys, within_s=LOOK_FOR_S)
    if found.mailboxes or found.jobs:
        yield finding(
            "error",
            f"nothing points to {found}",
            "run `courier doctor --repair`; workers do so at their start and every ten minutes",
        )
    if found.records:
        yield finding(
            "error",
            f"{counted(found.records, 'pending job')} in no mailbox: the values are lost",
            "something else deleted keys of the courier, or Redis evicted them: add these jobs "
            "again (`courier outcomes --status pending` lists pending ones)",
        )
    if not found.whole:
        yield finding("warning", f"not all was looked at within {LOOK_FOR_S:.0f} s")
    status = _status_of(picture, account)
    if status and status.in_flight and not status.workers:
        yield finding(
            "warning",
            f"{counted(status.in_flight, 'email')} still leased to workers that are gone",
            "start a worker: it takes them over when their leases end",
        )
    if status and status.repairs:
        yield finding(
            "warning",
            f"{counted(status.repairs, 'repair')} since the account began",
            "the workers' log says when; did something else delete keys of the courier?",
        )
    if not (found.mailboxes or found.jobs or found.records) and found.whole:
        yield finding("ok", "everything in Redis has its place")


def _foreign_inboxes(client: Client, accounts: Sequence[str]) -> Iterator[Finding]:
    for each in find_foreign_inboxes(client, accounts, within_s=LOOK_FOR_S):
        if each.account is None:
            hint = (
                "whoever published them has the key's name wrong: it is "
                f"courier:{{{accounts[0]}}}:inbox, with the braces (docs/wire-format.md). "
                "Publish them again there, and delete this key"
            )
        else:
            hint = (
                f"add {each.account} to COURIER_ACCOUNTS of all workers and of this command, or "
                "correct the account that the publisher names"
            )
        yield Finding(
            part="State",
            what="other inboxes",
            level="error",
            text=f"{counted(each.jobs, 'job')} in {each.key}, where no worker here looks",
            hint=hint,
        )


def _status_of(picture: Picture | None, account: str) -> AccountStatus | None:
    statuses = picture.accounts if picture else ()
    return next((each for each in statuses if each.account == account), None)


# --- the way to ChartMogul ------------------------------------------------------------------------


def _network(settings: Settings) -> Iterator[Finding]:
    from ..worker.way import Unreachable, Way  # reads the settings, as `chartmogul` says

    if faults := network():
        yield from faults
        return
    level: Level = "ok"
    try:
        text = f"requests go {Way(settings.api_url)}"
    except Unreachable as error:
        text, level = error.reason, "error"
    yield Finding(
        part="Network",
        what="proxy and certificates",
        level=level,
        text=f"{text} (Python {sys.version.split()[0]})",
        kind="settings",
    )

"""A run: real servers, workers and producers in a temporary directory, and faults."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attribute_courier.sandbox import LeashedProcess, SandboxConfig, SandboxProcess

from ..rabbitmq import RabbitMQ
from .asks import CULPRITS, DAMAGED, EMAILS, MARK, MATCHED, PICKY, QUIET
from .checker import Ask, Counted, Evidence, Outcome
from .courier import CourierWay
from .faults import EVERYDAY, Chaos, Crew, Pair
from .plain import PlainWay
from .way import AT_ONCE, RATE, TIMEOUT_S, Way

ROOT = Path(__file__).parents[2]
WORKERS = PRODUCERS = 3
START_TIMEOUT_S = 60
STAND_IN = SandboxConfig(
    rate_limit=RATE + 1,
    latency_s=0.15,
    latency_sigma=0.2,
    customers=MATCHED + PICKY + CULPRITS + DAMAGED,
    quiet_emails=QUIET,
    faults=EVERYDAY,
)


WAYS: dict[str, type[Way]] = {"courier": CourierWay, "plain": PlainWay}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to."""

    evidence: Evidence
    faults: Mapping[str, int]
    settled_s: float
    """How long it took, after the faults, until every job was at its end."""


def run(
    home: Path,
    *,
    seed: int,
    seconds: float,
    settle_s: float,
    way_name: str,
    by_rabbitmq: bool = False,
) -> Result:
    """Let producers write and things go wrong for `seconds`, then wait for the jobs' ends.

    `settle_s`: how long to wait at most. `by_rabbitmq`: messages go by RabbitMQ, which fails, too.
    Raises `RuntimeError` when nothing gets going.
    """
    for name in [name for name in os.environ if name.startswith(("COURIER_", "CHARTMOGUL_"))]:
        del os.environ[name]
    with ExitStack() as stack:
        pair = Pair(home)
        stack.callback(pair.stop)
        key = f"chaos-key-{seed}"
        config = STAND_IN.changed({"accounts": {"default": key}, "seed": seed})
        stand_in = stack.enter_context(SandboxProcess(config, log=home / "stand-in.log"))
        os.environ.update(WAYS[way_name].environ(pair.url, stand_in))
        node = None
        if by_rabbitmq:
            (home / "rabbitmq").mkdir()
            node = stack.enter_context(RabbitMQ(home / "rabbitmq"))
            os.environ["COURIER_BROKER_URL"] = node.url
        way = WAYS[way_name]()
        crew = Crew(way.start_worker, home)
        stack.callback(crew.kill)
        crew.start(WORKERS)
        _wait(lambda: crew.log().count(" ready.") >= WORKERS, crew.log)
        records = [home / f"producer-{number}.jsonl" for number in range(PRODUCERS)]
        producers = []
        for number, record in enumerate(records):
            argv = [sys.executable, "-m", f"{__package__}.asks", way_name]
            argv += [str(number), str(seed), str(seconds)]
            with record.open("wb") as out, record.with_suffix(".log").open("wb") as log:
                producers.append(LeashedProcess(argv, cwd=ROOT, stdout=out, stderr=log))
            stack.callback(producers[-1].kill)
        chaos = Chaos(crew, pair, stand_in, way.damage, seed=seed, node=node)
        chaos.run(seconds)
        _wait(lambda: not any(each.running for each in producers), crew.log)
        if any(each.popen.returncode for each in producers):
            said = [record.with_suffix(".log").read_text()[-2000:] for record in records]
            raise RuntimeError("a producer failed:\n" + "\n".join(said))
        stand_in.configure(faults=[])
        asks = [Ask(**json.loads(line)) for record in records for line in record.open()]
        asks = [ask for ask in asks if ask.email not in DAMAGED]
        if way_name == "plain":  # it knows no form of a job, so none is wrong
            asks = [replace(ask, valid=True) for ask in asks]
        crew.start(1)  # a worker that starts looks for what nothing points to
        after_damage = way.after_damage(DAMAGED)
        settled_s, inbox = _settled(way, asks, settle_s)
        counted, outcomes, damaged = _counted(way, asks)
        requests = stand_in.requests()
        customers = {
            each["email"]: each["attributes"]["custom"]
            for each in stand_in.customers()
            if each["email"] not in DAMAGED
        }
    return Result(
        evidence=Evidence(
            asks=asks,
            outcomes=outcomes,
            inbox=inbox,
            log=requests,
            customers=customers,
            worker_logs=crew.log(),
            secrets=[
                *([node.password] if node else []),
                key,
                base64.b64encode(key.encode()).decode()[:-4],
                MARK,
                *EMAILS,
            ],
            rate=RATE + 1,
            at_once=AT_ONCE,
            timeout_s=TIMEOUT_S,
            damaged=frozenset(DAMAGED),
            after_damage=after_damage,
            damaged_outcomes=damaged,
            counted=counted,
        ),
        faults=chaos.injected + crew.ended + _answered(requests),
        settled_s=settled_s,
    )


def _settled(way: Way, asks: Sequence[Ask], settle_s: float) -> tuple[float, int]:
    """Wait until every job is at its end, or the time is up."""
    began_s = time.monotonic()
    while True:
        outcomes, inbox = way.outcomes(asks)
        outcomes, _ = _apart(outcomes)
        waited_s = time.monotonic() - began_s
        known = all(ask.job_id in outcomes for ask in asks if ask.answer == "taken")
        ended = all(each.status != "pending" for each in outcomes.values())
        if (known and ended and not inbox) or waited_s > settle_s:
            return waited_s, inbox
        time.sleep(0.5)


def _counted(
    way: Way, asks: Sequence[Ask]
) -> tuple[Counted | None, dict[str, Outcome], Counter[str]]:
    """What the metrics say, and the outcomes of the same moment."""
    for _ in range(20):  # jobs of damaged emails may still be on their way
        counted = way.counted()
        outcomes, _inbox = way.outcomes(asks)
        if way.counted() == counted:
            break
    return counted, *_apart(outcomes)


def _apart(outcomes: Mapping[str, Outcome]) -> tuple[dict[str, Outcome], Counter[str]]:
    """The outcomes that are in evidence, and how many there are of the others, by status."""
    told = {id_: each for id_, each in outcomes.items() if each.email not in DAMAGED}
    return told, Counter(each.status for id_, each in outcomes.items() if id_ not in told)


def _answered(log: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """What the stand-in did wrong, request by request, and what came too fast for it."""
    names = {"latency": "answered past the timeout", "drop_before": "dropped before applying"}
    names["drop_after"] = "dropped after applying"
    return Counter(
        names.get(each["fault"]) or f"answered {each['status']}"
        for each in log
        if each["fault"] or each["status"] in (429, 503)
    )


def _wait(condition: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"not within {START_TIMEOUT_S} s; what the workers said:\n{log()[-4000:]}"
            )
        time.sleep(0.1)

"""The checker finds each broken promise in a log made by hand, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from .checker import Ask, Checker, Counted, Evidence, Outcome

ADA, BOB, NOBODY, QUIET = (f"{name}@chaos.example" for name in ("ada", "bob", "nobody", "quiet"))
SECRET = "chaos-key"


def ask(job_id: str | None, email: str = ADA, at: int = 0, **more: Any) -> Ask:
    """Asked for at the time `at`; its values are its own."""
    more.setdefault("values", {"plan": f"plan-{job_id}"})
    return Ask(email=email, occurred_us=at, job_id=job_id, **more)


OLD = ask("old", at=1, values={"plan": "free", "since": "2026-01-31T00:00:00Z"})
NEW = ask("new", at=2, values={"plan": "pro"})
BAD = ask("bad", BOB, at=3, valid=False)
REFUSED = ask("refused", BOB, at=4)
UNMATCHED = ask("unmatched", NOBODY, at=5)
UNCONFIRMED = ask("unconfirmed", QUIET, at=6)
FIRST = ask("first", BOB, at=7, idempotency_key="order", values={"nps": 1})
AGAIN = ask("first", BOB, at=8, idempotency_key="order", values={"nps": 2})
ASKS = (OLD, NEW, BAD, REFUSED, UNMATCHED, UNCONFIRMED, FIRST, AGAIN)


def post(number: float, *asks: Ask, status: int | None = 200, **more: Any) -> dict[str, Any]:
    """A request with the values of these asks, two seconds after the one before."""
    values = {key: value for one in asks for key, value in one.values.items()}
    return {
        "number": number,
        "method": "POST",
        "email": asks[0].email,
        "custom": [{"key": key, "value": value} for key, value in values.items()],
        "status": status,
        "fault": None,
        "applied": status == 200,
        "arrived_s": 2.0 * number,
        "ended_s": 2.0 * number + 0.5,
    } | more


POSTS = (
    post(1, OLD),
    post(2, NEW),
    post(3, REFUSED, FIRST, status=422),
    post(4, REFUSED, status=422),
    post(5, FIRST),
    post(6, UNMATCHED, status=404),
    post(7, UNCONFIRMED, applied=False),
)
PRO = {"plan": "pro", "since": "2026-01-31T00:00:00.000Z"}
CUSTOMERS: dict[str, dict[str, Any]] = {
    ADA: PRO,
    BOB: {"nps": 1},
    QUIET: {},
}


def run(
    *asks: Ask,
    posts: tuple[dict[str, Any], ...] = (),
    told: dict[str, str | None] | None = None,
    customers: dict[str, dict[str, Any]] | None = None,
    **more: Any,
) -> Evidence:
    """A run that keeps all promises; besides, these asks and requests, and what else is given.

    `told`: job id → status, for these asks, or instead of what was told; None for nothing.
    """
    statuses: dict[str, str | None] = dict.fromkeys(["old", "new", "first"], "delivered")
    statuses |= {name: name for name in ("refused", "unmatched", "unconfirmed")}
    statuses |= {"bad": "invalid"} | (told or {})
    about = {one.job_id or "unknown": one for one in (*ASKS[:-1], *asks)}
    evidence = Evidence(
        asks=(*ASKS, *asks),
        outcomes={
            job_id: Outcome(
                status=status, email=about[job_id].email, occurred_us=about[job_id].occurred_us
            )
            for job_id, status in statuses.items()
            if status is not None
        },
        inbox=0,
        log=(*POSTS, *posts),
        customers=CUSTOMERS | (customers or {}),
        worker_logs="job old: a***@chaos.example: delivered",
        secrets=(SECRET, ADA, BOB),
        rate=20,
        at_once=5,
        timeout_s=1.0,
    )
    return replace(evidence, **more)


COUNTS = {"delivered": 3, **dict.fromkeys(("refused", "unmatched", "unconfirmed", "invalid"), 1)}


def counted(attempts: dict[str, int] | None = None, **jobs: int) -> Counted:
    """What the metrics say after a run; other numbers where they are given."""
    return Counted(
        jobs=COUNTS | jobs, attempts={"2xx": 4, "4xx": 3, "timeout": 9} | (attempts or {})
    )


def crowd(count: int, *, gap_s: float, last_s: float) -> Evidence:
    """Requests for many emails, `gap_s` apart, each of which takes `last_s`."""
    asks = [ask(f"crowd{n}", f"crowd{n}@chaos.example") for n in range(count)]
    posts = [
        post(20 + n, one, arrived_s=50 + n * gap_s, ended_s=50 + n * gap_s + last_s)
        for n, one in enumerate(asks)
    ]
    return run(
        *asks,
        posts=tuple(posts),
        customers={one.email: dict(one.values) for one in asks},
        told={str(one.job_id): "delivered" for one in asks},
    )


def but(number: int, **more: Any) -> tuple[dict[str, Any], ...]:
    """All requests, one of them changed."""
    return tuple(each | more if each["number"] == number else each for each in POSTS)


EARLIER = ask("earlier", BOB, timeless=True, number=1, values={"mrr": 1.5})
LATER = ask("later", BOB, timeless=True, number=2, values={"seats": 3})
LATE = ask("late", at=0)
TIED = ask("zzz", at=2)
THERE = ask(None, at=11, answer="unknown", values={"seats": 2})
GONE = ask("gone", BOB, at=9, values={"mrr": 1.5})
TAKER = ask("taker", BOB, at=10, values={"mrr": 2.5})
WRONG = ask("wrong", BOB, at=10, values={"mrr": 3.5}, valid=False)
TAKEN = (post(9, TAKER, status=422),)
TWIN = replace(AGAIN, job_id="second")

KEPT = {
    "nothing out of the ordinary": run(),
    "a late job": run(LATE, told={"late": "superseded"}),
    "two of the same time, the greater id sent later": run(
        TIED, posts=(post(9, TIED),), told={"zzz": "delivered"},
        customers={ADA: PRO | {"plan": "plan-zzz"}},
    ),
    "a job of which it is unknown whether it arrived, and it did": run(
        THERE, posts=(post(9, THERE),), told={"unknown": "delivered"},
        customers={ADA: PRO | {"seats": 2}},
    ),
    "one that did not": run(THERE),
    "a value replaced by one that was refused then": run(
        GONE, TAKER, posts=TAKEN, told={"gone": "superseded", "taker": "refused"}
    ),
    "the same, but the first had been written, and the answer lost": run(
        GONE, TAKER, posts=(post(8, GONE, status=None, applied=True), *TAKEN),
        told={"gone": "superseded", "taker": "refused"}, customers={BOB: {"nps": 1, "mrr": 1.5}},
    ),
    "metrics that count what was": run(counted=counted()),
    "a worker that was killed before it counted its request": run(counted=counted({"2xx": 3})),
    "jobs of damaged emails are counted, too": run(
        counted=counted(delivered=5), damaged_outcomes={"delivered": 2, "pending": 1}
    ),
    "a pace at its limits": crowd(40, gap_s=1 / 19, last_s=0.26),
    "so many late ones as there are at once": crowd(25, gap_s=1 / 25, last_s=0.1),
}  # fmt: skip

BROKEN = {
    "a job of which nothing is known": (run(LATE), [1]),
    "a job that is pending": (run(LATE, told={"late": "pending"}), [1]),
    "a job that nobody accepted": (run(inbox=1), [1]),
    "one that was sent, and then forgotten": (
        run(THERE, posts=(post(9, THERE),), customers={ADA: PRO | {"seats": 2}}), [1, 2]
    ),
    "a job that nobody has read": (
        run(outcomes=dict(run().outcomes) | {"x": Outcome(status="pending")}), [1]
    ),
    "an older value at the end": (run(customers={ADA: PRO | {"plan": "free"}}), [2]),
    "no value at the end": (run(customers={ADA: {"plan": "pro"}}), [2]),
    "a value at the end that nobody asked for": (run(customers={ADA: PRO | {"nps": 9}}), [2]),
    "a value replaced by one that makes no job": (
        run(GONE, WRONG, told={"gone": "superseded", "wrong": "invalid"}), [2, 6]
    ),
    "the refused value at the end": (run(customers={BOB: {"nps": 1, "plan": "plan-refused"}}), [2]),
    "the value of the lesser id, of the same time": (
        run(TIED, posts=(post(1.5, TIED),), told={"zzz": "delivered"}), [2, 3]
    ),
    "a newest value that was never sent": (
        run(GONE, told={"gone": "superseded"}), [2, 6]
    ),
    "an older value over a newer one, mended later": (
        run(LATE, posts=(post(8, LATE), post(9, NEW)), told={"late": "delivered"}), [3]
    ),
    "the same by a request whose answer was lost": (
        run(posts=(post(8, OLD, status=None, applied=True), post(9, NEW))), [3]
    ),
    "the same by a request that came before, and acted after": (
        run(
            GONE, TAKER,
            posts=(
                post(8, GONE, status=None, applied=True, ended_s=18.4),
                post(9, TAKER, arrived_s=18, ended_s=18.2),
            ),
            told={"gone": "superseded", "taker": "delivered"},
            customers={BOB: {"nps": 1, "mrr": 2.5}},
        ),
        [3, 4],
    ),
    "two requests at once for an email": (run(posts=(post(8, NEW, arrived_s=4.4),)), [4]),
    "one within a longer one": (run(log=but(1, ended_s=4.1)), [4, 6]),
    "one while another is not answered": (
        run(posts=(post(8, NEW, status=None, ended_s=None), post(9, NEW))), [4]
    ),
    "too many in a second": (crowd(26, gap_s=1 / 26, last_s=0.1), [5]),
    "too many at once": (crowd(12, gap_s=0.1, last_s=0.59), [5]),
    "delivered, and never sent": (run(log=POSTS[1:]), [6]),
    "delivered, and dropped": (run(log=but(2, status=None)), [6]),
    "delivered, and 200 came too late": (run(log=but(2, ended_s=5.1)), [6]),
    "delivered, and all were given up on, so that they are not at once": (
        crowd(30, gap_s=0.3, last_s=1.9), [6]
    ),
    "delivered, and nothing was changed": (run(log=but(2, applied=False)), [6]),
    "delivered, and only in part": (
        run(log=but(1, custom=[{"key": "plan", "value": "free"}])), [6]
    ),
    "delivered, and superseded before it was sent": (
        run(
            GONE, TAKER, posts=(post(9, TAKER),), told={"gone": "delivered", "taker": "delivered"},
            customers={BOB: {"nps": 1, "mrr": 2.5}},
        ),
        [6],
    ),
    "superseded by nothing": (run(told={"new": "superseded"}), [6]),
    "unmatched, and there is a customer": (run(customers={NOBODY: {}}), [6]),
    "unmatched, and never sought": (run(log=POSTS[:5] + POSTS[6:]), [6]),
    "unconfirmed, and taken": (
        run(log=but(7, applied=True), customers={QUIET: {"plan": "plan-unconfirmed"}}), [6]
    ),
    "unconfirmed, and taken later": (
        run(posts=(post(9, UNCONFIRMED),), customers={QUIET: {"plan": "plan-unconfirmed"}}), [6]
    ),
    "unconfirmed, and refused": (run(log=but(7, status=422)), [6]),
    "refused, and taken later": (
        run(posts=(post(9, REFUSED),), customers={BOB: {"nps": 1, "plan": "plan-refused"}}), [6]
    ),
    "refused, and only with others": (run(log=POSTS[:3] + POSTS[4:]), [6]),
    "failed": (run(told={"refused": "failed"}), [6]),
    "invalid, and sent": (run(posts=(post(9, BAD, status=422),)), [6]),
    "delivered, and makes no job": (run(told={"bad": "delivered"}), [6]),
    "invalid, and makes a job": (run(told={"unmatched": "invalid"}), [6]),
    "one idempotency key, two jobs, of which one is lost": (run(asks=(*ASKS[:-1], TWIN)), [1, 7]),
    "one idempotency key, sent for both": (
        run(posts=(post(9, AGAIN),), customers={BOB: {"nps": 2}}), [2, 7]
    ),
    "a job that nobody asked for": (
        run(outcomes=dict(run().outcomes) | {"x": Outcome(status="superseded", email=ADA)}), [7]
    ),
    "two jobs without a time, of which the later is the older": (
        run(
            EARLIER, LATER, posts=(post(9, EARLIER), post(10, LATER)),
            outcomes=dict(run().outcomes) | {
                "earlier": Outcome(status="delivered", email=BOB, occurred_us=21),
                "later": Outcome(status="delivered", email=BOB, occurred_us=20),
            },
            customers={BOB: {"nps": 1, "mrr": 1.5, "seats": 3}},
        ),
        [8],
    ),
    "an email that takes no more jobs after the damage": (
        run(after_damage={"damaged@chaos.example": "pending"}), [9]
    ),
    "failed, and the server never did": (run(told={"new": "failed"}), [6]),
    "a job that was counted twice": (run(counted=counted(delivered=4)), [11]),
    "a job that was not counted": (run(counted=counted(invalid=0)), [11]),
    "a job that was counted as another": (run(counted=counted(failed=1, refused=0)), [11]),
    "a request that was counted twice": (run(counted=counted({"2xx": 5})), [11]),
    "a key in a log": (run(worker_logs=f"Authorization: {SECRET}"), [10]),
    "an email in a log": (run(worker_logs=f"no customer has {ADA}"), [10]),
}  # fmt: skip


def broken(evidence: Evidence) -> list[int]:
    """Numbers of the promises that the checker finds broken."""
    return [int(each.promise.split()[0]) for each in Checker(evidence).findings() if each.broken]


@pytest.mark.parametrize("evidence", KEPT.values(), ids=KEPT)
def test_finds_nothing_where_promises_were_kept(evidence: Evidence) -> None:
    assert broken(evidence) == []


@pytest.mark.parametrize(("evidence", "promises"), BROKEN.values(), ids=BROKEN)
def test_finds_what_was_broken_and_only_that(evidence: Evidence, promises: list[int]) -> None:
    assert broken(evidence) == promises

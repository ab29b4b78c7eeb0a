"""The arithmetic of the benchmarks; benchmarks/README.md says what they measure."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# They are run from the checkout and installed nowhere. At the end of the path, and for this import
# only: nothing else should find the rooms by their short names.
sys.path.append(str(ROOT))
from benchmarks.__main__ import SCEPTIC, SUITE, Benchmark, Ran, page  # noqa: E402
from benchmarks.backlog import drained, updates_of  # noqa: E402
from benchmarks.backlog import table as backlog_table  # noqa: E402
from benchmarks.cpu import Spent  # noqa: E402
from benchmarks.cpu import table as cpu_table  # noqa: E402
from benchmarks.cpu import targets as cpu_targets  # noqa: E402
from benchmarks.culprits import culprit, good, suffered  # noqa: E402
from benchmarks.culprits import targets as culprit_targets  # noqa: E402
from benchmarks.growth import Size, common, growth  # noqa: E402
from benchmarks.idle import Answered, Quiet  # noqa: E402
from benchmarks.idle import targets as idle_targets  # noqa: E402
from benchmarks.live import Asking, Waits, arrivals, live, pace  # noqa: E402
from benchmarks.live import targets as live_targets  # noqa: E402
from benchmarks.measure import measure, percentile, ratio  # noqa: E402
from benchmarks.memory import Held, kept_bytes  # noqa: E402
from benchmarks.memory import targets as memory_targets  # noqa: E402
from benchmarks.pace import Result  # noqa: E402
from benchmarks.pace import targets as pace_targets  # noqa: E402
from benchmarks.redis_use import Use  # noqa: E402
from benchmarks.report import Target, columns, machine, number  # noqa: E402
from benchmarks.ways import CELERY, CourierWay  # noqa: E402

sys.path.pop()


def post(email: str, arrived_s: float, ended_s: float, status: int = 200) -> dict[str, Any]:
    """A request, as the stand-in's log has it."""
    return {
        "method": "POST",
        "email": email,
        "arrived_s": arrived_s,
        "ended_s": ended_s,
        "status": status,
        "custom": [{"key": "score", "value": 0}],
    }


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert ratio(1, 0) == 0


def test_the_pace_is_read_from_the_log_after_the_warm_up() -> None:
    stats = {"max_in_progress": 3, "max_in_any_second": 2, "overlaps": 0}
    log = [
        post("early@a.example", 0, 1),
        *(post(f"{number}@a.example", number, number + 1) for number in range(10, 20)),
        post("late@a.example", 12, 12, status=429),
        {**post("ping", 0, 0), "method": "GET"},
    ]
    found = measure(log, stats, emails=12, warm_up_s=10)
    assert (found.delivered, found.requests, found.statuses) == (11, 11, {"200": 10, "429": 1})
    assert found.seconds == 9, "from the first answer to the last"
    assert found.per_second == 1, "nine intervals of a second between ten answers"
    assert found.share_429 == pytest.approx(1 / 11)
    assert found.per_delivery == pytest.approx(1.1)


def test_a_backlog_is_told_from_the_log() -> None:
    log = [
        {**post(email, 5, 6), "custom": custom} for email, custom in updates_of(emails=2, updates=4)
    ]
    log[-1]["ended_s"] = 5.5  # the newest value of one email was overwritten
    log.append(post("customer-1@load.example", 6, 7, status=429))
    found = drained("way", log, started_s=1, handed_over=4, ended=4, emails=2)
    assert (found.requests, found.seconds, found.newest) == (5, 5, 1)

    computed = found.at_this_pace(400)
    assert (computed.requests, computed.seconds, computed.computed) == (500, 500, True)
    ours = drained("courier", log[:2], started_s=1, handed_over=400, ended=400, emails=2)
    lines = backlog_table([ours, found, computed])
    assert lines[1][-2:] == ["250.0 times", "100.0 times"]
    assert lines[2][-2:] == lines[3][-2:] == ["", ""]


def test_a_live_job_waits_from_the_call_until_its_request_that_is_answered_200_arrives() -> None:
    log = [
        post("live-0@load.example", 0, 1, status=429),
        post("live-0@load.example", 2, 4),
        post("bob@a.example", 0, 9),
    ]
    arrived = arrivals(log)
    assert arrived == {"live-0@load.example": 2, "bob@a.example": 0}
    assert pace(arrived, 1, 5) == 0.25

    asking = Asking(lambda email, custom: None, seed=0)
    asking.asked_s += [1.5, 3.0]
    assert asking.waited_s(arrived) == [0.5, None]
    assert live(1) not in arrived


def test_the_targets_of_live_jobs_are_of_the_courier_while_its_backlog_drains() -> None:
    def waits(way: str, waited_s: tuple[float, ...], asked: int) -> Waits:
        return Waits(way=way, backlog=9, waited_s=waited_s, asked=asked, per_second=39)

    draining = waits("courier, while it drains", (0.05, 0.05, 0.2), 3)
    coming_in = waits("courier, while it comes in", (9.0,), 2)
    found = live_targets([draining, coming_in, waits("celery", (5.0,), 99)])
    assert [(each.found, each.met) for each in found] == [(50, True), (200, False), (1, False)]
    assert live_targets([waits("courier", (), 3)])[0].found == float("inf")


def spent(cpu_s: float, **more: Any) -> Spent:
    """A run of ten deliveries."""
    figures: dict[str, Any] = {
        "delivered": 10,
        "seconds": 1,
        "worker_cpu_s": cpu_s,
        "redis_cpu_s": 1,
        "commands": 300,
        "reads": 10,
        "handing_over_redis_cpu_s": 0.2,
        "handing_over_commands": 60,
        "worker_bytes": 2**20,
    }
    return Spent(**{**figures, **more})


def test_the_cost_of_a_delivery_is_a_ratio_of_medians() -> None:
    runs = {
        CourierWay().name: [spent(1), spent(2), spent(9)],
        "celery": [spent(4, redis_cpu_s=0.7, handing_over_redis_cpu_s=0.3)],
    }
    ours, celery = cpu_table(runs)[1:]
    assert (ours[3], ours[4], celery[3], celery[4]) == ("200.00 ms", "0.50", "400.00 ms", "1.00")
    assert (ours[7], ours[8]) == ("36.0", "1.00"), "commands of handing over count, too"
    found = {each.aim: each for each in cpu_targets(runs)}
    assert (found[0.7].found, found[50].found) == (0.5, 36)
    assert found[1.2].found == pytest.approx(1.2)


def test_a_look_at_redis_does_not_count_itself() -> None:
    before = Use(cpu_s=1, commands=10, reads=5)
    assert Use(cpu_s=3, commands=14, reads=8).since(before) == Use(cpu_s=2, commands=3, reads=2)


def test_the_targets_of_an_idle_system_are_medians_beside_celerys() -> None:
    def jobs(way: str, *to_post_s: float) -> Answered:
        return Answered(
            way=way, to_post_s=to_post_s, to_wait_s=(), settled_to_wait_s=(0.01, 0.014, 0.2)
        )

    idle = [
        Quiet(way="courier", workers=workers, commands_per_second=4.0 * workers,
              worker_cpu_ms_per_second=1)
        for workers in (4, 1)
    ]  # fmt: skip
    found = idle_targets(
        [jobs(CourierWay().name, 0.001, 0.0012, 9), jobs(CELERY.title, 0.0024)], idle
    )
    assert [each.found for each in found] == pytest.approx([-1.2, 14, 4])
    assert all(each.met for each in found)


def test_what_is_kept_for_a_month_follows_from_an_outcomes_bytes() -> None:
    assert kept_bytes(700, days=30) == 700 * 40 * 86_400 * 30
    ours = Held(way="courier", attributes=1, handed_over=400, waiting=621, delivered=700)
    celery = Held(way="celery", attributes=1, handed_over=1_200, delivered=400)
    found = memory_targets([ours, celery])
    assert [(each.found, each.met) for each in found] == [(700, True), (621, False)]


def test_growth_is_of_the_medians_of_scripts_that_are_called_often() -> None:
    def size(waiting: int, claim_us: int, ping_us: int) -> Size:
        took_us = {"claim": [claim_us] * 40 + [10_000], "ping": [ping_us]}
        return Size(waiting=waiting, loaded_s=1, took_us=took_us)

    sizes = [size(1_000, 100, 1), size(100_000, 150, 9), size(1_000_000, 120, 9)]
    assert common(sizes) == ["claim"]
    assert growth(sizes, "claim") == 1.5
    assert growth([sizes[1], sizes[0]], "claim") == 1, "a script that gets quicker has not grown"


def test_culprits_are_counted_after_a_minute_and_good_jobs_until_their_answer() -> None:
    theirs = [post(culprit(0), at, at + 0.1, status=500) for at in (1, 30, 65, 80)]
    log = [
        *theirs,
        post(good(0), 2, 2.2, status=500),
        post(good(0), 4, 4.5),
        post(good(0), 9, 9.5),
    ]

    def found(end_s: float, asked_s: list[float]) -> Any:
        return suffered("courier", "500", log, start_s=0, end_s=end_s, asked_s=asked_s)

    whole = found(100, [1.5])
    assert whole.waited_s == (3.0,)
    assert (whole.first_minute, whole.later_per_second) == (2, 2 / 40)
    assert [each.met for each in culprit_targets([whole])] == [True, True]
    assert found(50, [1.5]).later_per_second is None
    [missing] = culprit_targets([found(50, [1.5, 6.0])])
    assert missing.found == float("inf"), "a job that was not delivered waits for ever"


@pytest.mark.parametrize(
    ("sense", "found", "verdict"),
    [
        ("at most", 1.0, "met"),
        ("at most", 1.01, "missed"),
        ("at least", 1.0, "met"),
        ("at least", 0.99, "missed"),
    ],
)
def test_a_target_is_met_or_missed(sense: Any, found: float, verdict: str) -> None:
    target = Target(what="it", sense=sense, aim=1, found=found, unit="s")
    assert target.cells() == ["it", f"{sense} 1 s", f"{number(found)} s", verdict]


def test_numbers_have_three_digits_or_all_before_the_point() -> None:
    assert [number(each) for each in (0, 0.01234, 1.5, 99.94, 100.4, 12_345.6)] == [
        "0", "0.0123", "1.5", "99.9", "100", "12,346",
    ]  # fmt: skip


def test_a_table_has_its_first_column_at_the_left() -> None:
    assert columns([["way", "n"], ["a", "100"]]) == "way    n\na    100"


def test_the_targets_of_the_pace_are_of_the_courier_at_its_worst() -> None:
    def result(way: Any, per_second: int, most_at_once: int) -> Result:
        """Requests at this rate."""
        log = [post(f"{n}@a.example", n / per_second, (n + 10) / per_second) for n in range(101)]
        stats = {"max_in_progress": most_at_once, "max_in_any_second": 40, "overlaps": 0}
        measured = measure(log, stats, emails=101, warm_up_s=0)
        return Result(way=way, measured=measured, counts={})

    found = pace_targets(
        [result(CourierWay(), 39, 12), result(CourierWay(workers=2), 38, 21), result(CELERY, 9, 99)]
    )
    assert [each.found for each in found] == pytest.approx([95, 0, 21, 0])
    assert [each.met for each in found] == [False, True, False, True]


def test_the_page_has_the_machine_every_target_and_every_table() -> None:
    target = Target(what="seconds", sense="at most", aim=30, found=32.3)
    ran = [
        Ran(benchmark=each, command=f"python -m benchmarks.{each.module}", said=f"of {each.name}",
            targets=[target], finished=True, seconds=1)
        for each in SUITE
    ]  # fmt: skip
    text = page(ran, machine())
    assert "| backlog | seconds | at most 30 | 32.3 | missed |" in text
    assert re.search(r"Python 3\.\d+\.\d+; attribute-courier ", text)
    for each in SUITE:
        assert f"## {each.name}\n" in text
        assert f"```text\nof {each.name}\n```" in text
    assert text.endswith(SCEPTIC.read_text("utf-8"))
    assert not [line for line in text.splitlines() if len(line) > 160]


@pytest.mark.parametrize("benchmark", SUITE, ids=lambda each: each.name)
def test_every_benchmark_is_a_module_and_has_a_section(benchmark: Benchmark) -> None:
    assert (ROOT / "benchmarks" / f"{benchmark.module}.py").is_file()
    readme = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert re.search(rf"^## {benchmark.name}: ", readme, re.M)

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
from benchmarks.latency import Waits, delivered_s, pace  # noqa: E402

from benchmarks.__main__ import (  # noqa: E402
    SUITE,
    Benchmark,
    Ran,
    enqueue_targets,
    pace_targets,
    page,
)
from benchmarks.backlog import drained, updates_of  # noqa: E402
from benchmarks.backlog import table as backlog_table  # noqa: E402
from benchmarks.cpu import Spent  # noqa: E402
from benchmarks.cpu import table as cpu_table  # noqa: E402
from benchmarks.measure import measure, percentile, ratio  # noqa: E402
from benchmarks.report import Target, columns, machine, number  # noqa: E402

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
    assert found.seconds == 10
    assert found.per_second == 1
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


def test_a_delivery_is_the_first_answer_of_200() -> None:
    log = [
        post("ada@a.example", 0, 1, status=429),
        post("ada@a.example", 2, 4),
        post("ada@a.example", 3, 3.5),
        post("bob@a.example", 0, 9),
    ]
    delivered = delivered_s(log)
    assert delivered == {"ada@a.example": 3.5, "bob@a.example": 9}
    assert pace(delivered, 1, 5) == 0.25


def test_the_wait_behind_a_longer_backlog_follows_from_the_pace() -> None:
    found = Waits(way="plain", backlog=10, waited_s=(1.0, 3.0), asked=2, per_second=5)
    behind = found.behind(1_000)
    assert (behind.waited_s, behind.backlog, behind.computed) == ((200.0,), 1_000, True)


def test_the_cost_of_a_delivery_is_a_ratio_of_medians() -> None:
    def spent(cpu_s: float) -> Spent:
        return Spent(delivered=10, seconds=1, worker_cpu_s=cpu_s, redis_cpu_s=1, worker_bytes=2**20)

    lines = cpu_table([("ours", [spent(1), spent(2), spent(9)]), ("theirs", [spent(4)])])
    assert [line[3] for line in lines[1:]] == ["200.00 ms", "400.00 ms", "0.50"]
    assert lines[3][-2:] == ["1.00", "1.00"]


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


def test_the_targets_of_pace_and_enqueue_are_read_from_what_they_write() -> None:
    ours = {"per_second": 38.8, "share_429": 0.001, "most_at_once": 20, "overlaps": 0}
    plain = {"per_second": 1.0, "share_429": 0.5, "most_at_once": 50, "overlaps": 3}
    slow = {**ours, "way": "courier, 4 workers", "per_second": 38.0}
    results = [{**ours, "way": "courier, 1 worker"}, {**plain, "way": "plain, threads"}]
    assert [each.met for each in pace_targets({"results": results})] == [True] * 4
    assert not pace_targets({"results": [*results, slow]})[0].met

    handed_over = [
        {"median_call_s": 1.0, "median_per_second": 100.0},
        {"median_call_s": 1.5, "median_per_second": 70.0},
        {"median_call_s": 0.5, "median_per_second": 200.0},
        {"median_call_s": 9.0, "median_per_second": 1_000.0},
    ]
    found = enqueue_targets({"results": handed_over})
    assert [(each.found, each.met) for each in found] == [(1.5, False), (10.0, True)]


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


@pytest.mark.parametrize("benchmark", SUITE, ids=lambda each: each.name)
def test_every_benchmark_is_a_module_and_has_a_section(benchmark: Benchmark) -> None:
    assert (ROOT / "benchmarks" / f"{benchmark.module}.py").is_file()
    readme = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert re.search(rf"^## {benchmark.name}: ", readme, re.M)

"""`courier import` in this process: what it enqueues, what it tells, and its exit codes."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result

from attribute_courier.cli import main
from attribute_courier.cli import progress as progress_module
from attribute_courier.cli.importing import tracker as tracker_module
from attribute_courier.cli.importing.tracker import JobTracker
from attribute_courier.cli.progress import duration_phrase, progress, rate_phrase
from attribute_courier.jobs import NotReachable
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.outcome import Status
from attribute_courier.producers import Producer
from attribute_courier.producers import producer as producer_module
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys

from ..cli_runner import CliRunner

KEYS = Keys("default")
TABLE = """\
email,plan,age
ada@example.com,pro,36
nobody,free,1
two@example.com,free,
,,
two@example.com,pro,7
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command is a process of its own: none finds the producer of the one before."""
    monkeypatch.setattr(producer_module, "_default", None)
    yield
    if producer_module._default is not None:
        producer_module._default.close()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("customers.csv").write_text(TABLE, "utf-8")


@pytest.fixture
def inbox(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where Redis should be; at the usual port somebody may."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("COURIER_REDIS_URL", f"redis://127.0.0.1:{port}/0")


def run(*arguments: str, input: str | bytes | None = None) -> Result:  # noqa: A002
    result = CliRunner().invoke(main, ["import", *arguments], input=input, prog_name="courier")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def jobs(inbox: redis.Redis) -> list[dict[str, Any]]:
    """The documents in the inbox, in the order of their ids."""
    found: dict[str, str] = inbox.hgetall(KEYS.inbox)  # type: ignore[assignment]
    return [json.loads(wire) for _, wire in sorted(found.items())]


def document(result: Result) -> dict[str, Any]:
    [found] = json.loads(result.stdout)
    return found  # type: ignore[no-any-return]


class TestEnqueueing:
    def test_each_row_that_makes_a_job_is_one(self, inbox: redis.Redis) -> None:
        before = datetime.now(UTC)
        result = run("customers.csv")
        assert result.exit_code == 1
        found = jobs(inbox)
        assert [(job["email"], job["attributes"]) for job in found] == [
            (
                "ada@example.com",
                [
                    {"type": "String", "key": "plan", "value": "pro"},
                    {"type": "Integer", "key": "age", "value": 36},
                ],
            ),
            ("two@example.com", [{"type": "String", "key": "plan", "value": "free"}]),
            (
                "two@example.com",
                [
                    {"type": "String", "key": "plan", "value": "pro"},
                    {"type": "Integer", "key": "age", "value": 7},
                ],
            ),
        ]
        assert {job["lane"] for job in found} == {"bulk"}
        times = [datetime.fromisoformat(job["occurred_at"]) for job in found]
        assert times == sorted(set(times))
        assert (times[0] - before).total_seconds() > -1
        assert times[-1] < datetime.now(UTC)

    def test_what_was_found_out_and_done_is_told(self, inbox: redis.Redis) -> None:
        lines = [line.split() for line in run("customers.csv").stdout.splitlines()]
        assert ["plan", "plan", "String", "values", "3", "not", "sent", "before"] in lines
        assert ["age", "age", "Integer", "values", "2", "not", "sent", "before"] in lines
        assert ["enqueued", "3"] in lines
        assert ["rejected", "1"] in lines
        assert ["without", "values", "1"] in lines
        reason = next(line for line in lines if line[:1] == ["email:"])
        assert reason[-2:] == ["1", "3"], "one row, on line 3"

    def test_all_options_of_the_jobs(self, inbox: redis.Redis) -> None:
        Path("t.csv").write_text("Mail;First name;x;at\na@b.cc;Ada;1;2026-01-31\n", "utf-8")
        result = run(
            "t.csv",
            *("--email-column", "Mail", "--rename", "First name=first_name", "--exclude", "x"),
            *("--source", "crm", "--occurred-at-column", "at", "--lane", "live"),
            *("--type", "first_name=String", "--only-changed", "--delimiter", ";"),
        )
        assert result.exit_code == 0, result.output
        attribute = {"type": "String", "key": "first_name", "value": "Ada", "source": "crm"}
        assert jobs(inbox) == [
            {
                "v": 1,
                "email": "a@b.cc",
                "attributes": [attribute],
                "occurred_at": "2026-01-31T00:00:00.000000Z",
                "lane": "live",
                "only_changed": True,
            }
        ]

    def test_the_same_file_again_enqueues_nothing(self, inbox: redis.Redis) -> None:
        run("customers.csv")
        once = inbox.hgetall(KEYS.inbox)
        Path("renamed.csv").write_text(TABLE, "utf-8")
        again = document(run("renamed.csv", "--format", "json"))
        assert (again["enqueued"], again["known_already"]) == (0, 3)
        assert inbox.hgetall(KEYS.inbox) == once

    def test_a_run_id_stands_for_the_content(self, inbox: redis.Redis) -> None:
        first = document(run("customers.csv", "--run-id", "monday", "--format", "json"))
        Path("customers.csv").write_text(TABLE.replace("pro", "max"), "utf-8")
        again = document(run("customers.csv", "--run-id", "monday", "--format", "json"))
        other = document(run("customers.csv", "--run-id", "tuesday", "--format", "json"))
        assert [each["enqueued"] for each in (first, again, other)] == [3, 0, 3]

    def test_the_standard_input(self, inbox: redis.Redis) -> None:
        assert run("-", input='{"email":"a@b.cc","x":1}\n').exit_code == 0
        assert run("-", "-", input="").exit_code == 2
        assert [job["email"] for job in jobs(inbox)] == ["a@b.cc"]

    def test_an_account_by_name(self, inbox: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COURIER_ACCOUNTS", "eu,us")
        run("customers.csv", "--account", "us")
        assert inbox.hlen(Keys("us").inbox) == 3
        assert run("customers.csv", "--account", "fr").exit_code == 2

    def test_more_than_one_batch(self, inbox: redis.Redis) -> None:
        Path("t.csv").write_text("email,n\n" + "".join(f"u{n}@b.cc,{n}\n" for n in range(1_234)))
        assert document(run("t.csv", "--format", "json"))["enqueued"] == 1_234
        assert [job["attributes"][0]["value"] for job in jobs(inbox)] == list(range(1_234))


class TestStrict:
    def test_enqueues_nothing_if_a_row_is_rejected(self, inbox: redis.Redis) -> None:
        result = run("customers.csv", "--strict")
        assert result.exit_code == 2
        assert "Nothing was enqueued" in result.stderr
        assert 'email: has no "@"' in result.stdout
        assert jobs(inbox) == []

    def test_enqueues_all_if_none_is(self, inbox: redis.Redis) -> None:
        Path("t.csv").write_text(TABLE.replace("nobody,free,1\n", ""), "utf-8")
        assert run("t.csv", "--strict").exit_code == 0
        assert len(jobs(inbox)) == 3

    def test_leaves_nothing_for_a_file_of_rejects(self) -> None:
        assert run("customers.csv", "--strict", "--rejects", "r.csv").exit_code == 2


class TestRejects:
    def test_are_corrected_and_imported(self, inbox: redis.Redis) -> None:
        result = run("customers.csv", "--rejects", "rejects.csv")
        assert "1 rejected row is in rejects.csv" in result.stderr
        path = Path("rejects.csv")
        text = path.read_text("utf-8")
        assert text.startswith("email,plan:String,age:Integer,rejected because\nnobody,free,1,")
        path.write_text(text.replace("nobody", "n@b.cc"), "utf-8")
        assert run("rejects.csv").exit_code == 0
        assert "n@b.cc" in [job["email"] for job in jobs(inbox)]

    def test_without_any_no_file_is_written(self, inbox: redis.Redis) -> None:
        Path("t.csv").write_text("email,x\na@b.cc,1\n", "utf-8")
        assert run("t.csv", "--rejects", "rejects.csv").exit_code == 0
        assert not Path("rejects.csv").exists()

    def test_without_the_option_it_is_named(self, inbox: redis.Redis) -> None:
        assert "--rejects" in run("customers.csv").stderr


class TestDryRun:
    def test_sends_nothing_and_tells_everything(self, inbox: redis.Redis) -> None:
        inbox.hset(KEYS.of("types"), mapping={"plan": "String", "age": "Decimal"})
        result = run("customers.csv", "--dry-run", "--format", "json", "--rejects", "r.csv")
        assert result.exit_code == 1
        assert inbox.keys() == [KEYS.of("types")]
        found = document(result)
        assert {name: found[name] for name in ("rows", "valid", "rejected", "without_values")} == {
            "rows": 5,
            "valid": 3,
            "rejected": 1,
            "without_values": 1,
        }
        assert (found["emails"], found["requests"], found["seconds"]) == (2, 2, 2 / 39.2)
        [rejection] = found["rejections"]
        assert rejection["rows"] == 1
        assert rejection["first"] == ["customers.csv:3"]
        types = {each["key"]: (each["type"], each["type_before"]) for each in found["columns"]}
        assert types == {"plan": ("String", "String"), "age": ("Integer", "Decimal")}
        assert Path("r.csv").read_text("utf-8").count("\n") == 2

    def test_says_which_keys_are_new_and_which_had_another_type(self, inbox: redis.Redis) -> None:
        inbox.hset(KEYS.of("types"), "age", "Decimal")
        text = run("customers.csv", "--dry-run").stdout
        [new] = [line for line in text.splitlines() if line.endswith("not sent before")]
        assert new.startswith("plan ")
        assert "Decimal was used before" in text

    def test_tells_the_rest_without_redis(self, no_redis: None) -> None:
        result = run("customers.csv", "--dry-run")
        assert result.exit_code == 1
        assert "does not answer" in result.stderr
        assert "one for each email" in result.stdout
        assert "before" not in result.stdout

    def test_tells_the_time_at_the_accounts_pace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COURIER_RATE_LIMIT", "0.01")
        assert "3 min at 0.01 requests a second" in run("customers.csv", "--dry-run").stdout

    def test_of_rows_that_are_all_right_ends_with_0(self) -> None:
        Path("t.csv").write_text("email,x\na@b.cc,1\n", "utf-8")
        assert run("t.csv", "--dry-run").exit_code == 0

    @pytest.mark.parametrize("format_", ["table", "plain", "csv", "json", "jsonl"])
    def test_has_every_form_of_output(self, format_: str) -> None:
        text = run("customers.csv", "--dry-run", "--format", format_).stdout
        assert "Integer" in text
        assert "email: has no" in text

    def test_names_the_file_where_there_are_several(self) -> None:
        Path("more.csv").write_text("x,email\n1,nobody\n", "utf-8")
        text = run("customers.csv", "more.csv", "--dry-run").stdout
        assert "customers.csv:3, more.csv:2" in text


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "FILE"),
            (["nothing.csv"], "nothing.csv: No such file"),
            (["customers.csv", "--type", "age"], "COLUMN=TYPE"),
            (["customers.csv", "--type", "age=Number"], "String, Integer"),
            (["customers.csv", "--rename", "age"], "COLUMN=KEY"),
            (["customers.csv", "--rename", "age=the age"], "ASCII letters"),
            (["customers.csv", "--delimiter", ", "], "one character"),
            (["customers.csv", "--delimiter", "x"], "one character"),
            (["customers.csv", "--only", "plna"], 'there are "email", "plan", "age"'),
            (["customers.csv", "--source", ""], "--source must have 1 to 255"),
            (["customers.csv", "--rejects", "customers.csv"], "choose another name"),
        ],
    )
    def test_wrong_usage_is_explained_and_nothing_sent(
        self, arguments: list[str], words: str, inbox: redis.Redis
    ) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert inbox.keys() == []

    def test_redis_is_missed_before_the_file_is_read(self, no_redis: None) -> None:
        content = b"email,n\n" + b"a@b.cc,1\n" * 40_000 + b"\xff"
        Path("customers.csv").write_bytes(content)
        result = run("customers.csv")
        assert result.exit_code == 3
        assert "does not answer" in result.stderr

    def test_help_has_examples(self) -> None:
        assert "courier import customers.csv --dry-run" in run("--help").output


class TestStopped:
    def test_in_the_middle_it_says_how_to_go_on(
        self, inbox: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("t.csv").write_text("email,n\n" + "".join(f"u{n}@b.cc,{n}\n" for n in range(1_200)))
        add_many = Producer.add_many

        def interrupted(self: Producer, items: Any, **options: Any) -> Any:
            def some() -> Iterator[Any]:
                for n, item in enumerate(items):
                    if n == 1_100:
                        raise KeyboardInterrupt
                    yield item

            return add_many(self, some(), **options)

        monkeypatch.setattr(Producer, "add_many", interrupted)
        result = run("t.csv")
        assert result.exit_code == 1
        assert "Stopped after 1,000 rows" in result.stderr
        assert "The same command again" in result.stderr
        monkeypatch.setattr(Producer, "add_many", add_many)
        again = document(run("t.csv", "--format", "json"))
        assert (again["enqueued"], again["known_already"]) == (200, 1_000)

    def test_a_file_that_changes_meanwhile_ends_it(
        self, inbox: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("customers.csv").write_text("email,n\n" + "a@b.cc,1\n" * 1_200, "utf-8")
        add_many = Producer.add_many

        def changing(self: Producer, items: Any, **options: Any) -> Any:
            with open("customers.csv", "a") as file:
                file.write("late@example.com,1\n")
            return add_many(self, items, **options)

        monkeypatch.setattr(Producer, "add_many", changing)
        result = run("customers.csv")
        assert result.exit_code == 1
        assert "customers.csv: it changed" in result.stderr
        assert jobs(inbox) == []


# --- tracking --------------------------------------------------------------------------------


class World:
    """Jobs that end over the rounds of asking, on a clock that passes only when it is slept."""

    def __init__(self, ends: dict[str, tuple[float, Status]]) -> None:
        self.ends = ends
        self.now = 0.0
        self.asked: Counter[str] = Counter()
        self.away: tuple[float, float] = (-1.0, -1.0)

    def ask(self, job_ids: Sequence[str]) -> list[Status | None]:
        if self.away[0] <= self.now < self.away[1]:
            raise NotReachable("Redis does not answer")
        self.asked.update(job_ids)
        found: list[Status | None] = []
        for job_id in job_ids:
            at, status = self.ends[job_id]
            found.append(status if self.now >= at else "pending")
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return patched(World({}), monkeypatch)


def patched(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    class Clock:
        monotonic = staticmethod(lambda: world.now)
        sleep = staticmethod(world.sleep)

    monkeypatch.setattr(tracker_module, "time", Clock)
    return world


class TestTracker:
    def follow(self, world: World, told: list[int] | None = None) -> JobTracker:
        tracker = JobTracker()
        tracker.add([None, *world.ends])
        tracker.wait(world.ask, (told if told is not None else []).append)
        return tracker

    def test_waits_until_each_has_its_outcome(self, world: World) -> None:
        world.ends = {new_job_id(): (n / 40, "delivered") for n in range(2_000)}
        told: list[int] = []
        assert self.follow(world, told).settled == {"delivered": 2_000}
        assert told == sorted(told)
        assert told[-1] == 2_000
        assert world.now < 2_000 / 40 + 5
        assert world.asked.total() < 2_000 * 40

    def test_stragglers_hold_up_nobody_and_are_asked_about_rarely(self, world: World) -> None:
        slow: list[str] = []
        for n in range(20_000):
            job = new_job_id()
            world.ends[job] = (n / 400, "delivered")
            if n % 100 == 0:
                slow.append(job)
                world.ends[job] = (520.0, "unmatched")
        told: list[tuple[float, int]] = []
        tracker = JobTracker()
        tracker.add(world.ends)
        tracker.wait(world.ask, lambda done: told.append((world.now, done)))
        assert tracker.settled == {"delivered": 19_800, "unmatched": 200}
        assert next(now for now, done in told if done == 19_800) < 20_000 / 400 + 5
        assert max(world.asked[job] for job in slow) < 520 / 2 + 40

    def test_many_stragglers_in_front_hold_up_nobody_for_long(self, world: World) -> None:
        world.ends = {new_job_id(): (900.0, "unmatched") for _ in range(1_500)}
        world.ends |= {new_job_id(): (1.0, "delivered") for _ in range(1_500)}
        told: list[tuple[float, int]] = []
        tracker = JobTracker()
        tracker.add(world.ends)
        tracker.wait(world.ask, lambda done: told.append((world.now, done)))
        assert tracker.settled == {"unmatched": 1_500, "delivered": 1_500}
        assert next(now for now, done in told if done == 1_500) < 45
        assert world.now < 910

    def test_what_redis_does_not_know_is_at_its_end(self, world: World) -> None:
        tracker = JobTracker()
        tracker.add(["00000000-0000-8000-8000-00000000000f"])
        tracker.wait(lambda job_ids: [None] * len(job_ids), lambda _: None)
        assert tracker.settled == {"unknown": 1}

    def test_asks_about_the_ids_that_it_was_given(self, world: World) -> None:
        world.ends = {"00000000-0007-8abc-9def-0123456789ab": (0, "delivered")}
        self.follow(world)
        assert list(world.asked) == list(world.ends)

    def test_a_redis_that_restarts_is_waited_for(self, world: World) -> None:
        world.ends = {new_job_id(): (20.0, "delivered")}
        world.away = (1.0, 40.0)
        assert self.follow(world).settled == {"delivered": 1}
        world.ends = {new_job_id(): (200.0, "delivered")}
        world.away = (world.now + 1, world.now + 100)
        with pytest.raises(NotReachable):
            self.follow(world)

    def test_takes_16_bytes_a_job(self) -> None:
        tracker = JobTracker()
        tracker.add(new_job_id() for _ in range(1_000))
        assert len(tracker) == 1_000
        assert len(tracker._next) == 16_000


# --- progress ----------------------------------------------------------------------------------


class TestProgress:
    def test_elsewhere_than_on_a_terminal_it_is_a_line_every_ten_seconds(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = World({})

        class Clock:
            monotonic = staticmethod(lambda: world.now)

        monkeypatch.setattr(progress_module, "time", Clock)
        with progress("enqueued", 10_000, "rows") as told:
            for done in range(0, 10_000, 100):
                world.sleep(0.25)
                told(done)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines() == [
            "enqueued: 3,900 of 10,000 rows, 390/s, 16 s left",
            "enqueued: 7,900 of 10,000 rows, 400/s, 5 s left",
        ]

    def test_nothing_done_has_no_time_left(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = World({})

        class Clock:
            monotonic = staticmethod(lambda: world.now)

        monkeypatch.setattr(progress_module, "time", Clock)
        with progress("ended", 5, "jobs") as told:
            world.sleep(11)
            told(0)
        assert capsys.readouterr().err == "ended: 0 of 5 jobs, 0.0/s\n"

    @pytest.mark.parametrize(
        ("seconds", "phrase"),
        [
            (0, "0 s"),
            (99, "99 s"),
            (100, "2 min"),
            (5_400, "90 min"),
            (25_641, "7 h 7 min"),
            (400_000, "4 d 15 h"),
        ],
    )
    def test_a_duration_in_words(self, seconds: float, phrase: str) -> None:
        assert duration_phrase(seconds) == phrase

    def test_a_rate_in_words(self) -> None:
        assert (rate_phrase(5, 10), rate_phrase(12_345, 1)) == ("0.5/s", "12,345/s")

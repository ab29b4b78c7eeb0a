"""The `courier` command in this process: its help, its errors, its exit codes, its output."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
import redis
from click.testing import Result

from attribute_courier.cli import main
from attribute_courier.cli.output import OUTCOME_COLUMNS, show_outcomes
from attribute_courier.jobs import Customer, Outcome
from attribute_courier.jobs.ids import is_job_id, new_job_id
from attribute_courier.producers import producer as producer_module
from attribute_courier.sandbox import DEFAULT_API_KEY, EmbeddedRedis, Fault, SandboxProcess
from attribute_courier.state.inbox import Inbox, Taken
from attribute_courier.state.keys import Keys

from ..cli_runner import CliRunner

ADA = "ada@example.com"
KEYS = Keys("default")
COMMANDS = [
    "add", "cancel", "demo", "doctor", "flower", "forget", "hash", "health", "import", "metrics",
    "outbox", "outcomes", "pause", "ping", "replay", "resume", "sandbox", "status", "top", "up",
    "worker",
]  # fmt: skip
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
OUTCOME = Outcome(
    job_id="019abcde-0000-7000-8000-000000000000",
    account="default",
    status="delivered",
    email=ADA,
    lane="live",
    keys=("channel", "age"),
    attempts=1,
    http_status=200,
    customers=(Customer(uuid="cus_x", external_id="cus_0001"),),
    occurred_at=NOW,
    accepted_at=NOW,
    sent_at=NOW,
    settled_at=NOW,
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command is a process of its own: none finds the producer of the one before."""
    monkeypatch.setattr(producer_module, "_default", None)
    yield
    if producer_module._default is not None:
        producer_module._default.close()


def run(*arguments: str, **environ: str) -> Result:
    if producer_module._default is not None:
        producer_module._default.close()
        producer_module._default = None
    result = CliRunner().invoke(main, list(arguments), env=environ, prog_name="courier")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class TestHelp:
    def test_lists_every_command(self) -> None:
        text = run("--help").output
        for command in COMMANDS:
            assert f"\n  {command} " in text

    def test_documents_the_exit_codes(self) -> None:
        text = run("--help").output.partition("Exit codes:")[2]
        for code in range(5):
            assert f"\n    {code}  " in text

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command_has_an_example(self, command: str) -> None:
        result = run(command, "--help")
        assert result.exit_code == 0
        assert "Example" in result.output
        assert f"courier {command}" in result.output.partition("Example")[2]

    def test_says_the_version(self) -> None:
        assert run("--version").output.startswith("courier, version 0.")

    def test_an_unknown_command_is_wrong_usage(self) -> None:
        assert run("deliver").exit_code == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COURIER_REDIS_URL", "http://localhost"),
        ("COURIER_TIMEOUT", "soon"),
        ("COURIER_RATE_LIMIT", "fast"),
        ("COURIER_MAX_PARALLEL", "0"),
        ("COURIER_CONFIRM", "maybe"),
        ("COURIER_ACCOUNTS", "Europe!"),
        ("COURIER_ENQUEUE_TIMEOUT", "-1"),
        ("CHARTMOGUL_API_URL", "http://api.example.com/v1"),
        ("CHARTMOGUL_API_KEY", "with space"),
        ("CHARTMOGUL_API_KEY_FILE", "/nowhere/key"),
    ],
)
@pytest.mark.parametrize("command", [["ping"], ["worker"], ["add", ADA, "a=b"]])
def test_a_wrong_setting_is_named(command: list[str], variable: str, value: str) -> None:
    result = run(*command, **{variable: value})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {variable}") or variable in result.stderr
    assert "Traceback" not in result.output


class TestAdd:
    @pytest.fixture
    def inbox(self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("COURIER_REDIS_URL", server.url)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            yield client

    def test_prints_the_jobs_id(self, inbox: redis.Redis) -> None:
        result = run("add", ADA, "channel=Facebook", "age:Integer=8", "note:String=a=b:c")
        assert result.exit_code == 0
        job_id = result.stdout.strip()
        assert is_job_id(job_id)
        document = json.loads(inbox.hget(KEYS.inbox, job_id) or "")
        assert document["email"] == ADA
        assert document["attributes"] == [
            {"type": "String", "key": "channel", "value": "Facebook"},
            {"type": "Integer", "key": "age", "value": 8},
            {"type": "String", "key": "note", "value": "a=b:c"},
        ]

    def test_with_everything_said(self, inbox: redis.Redis) -> None:
        options = [
            *("--source", "survey", "--lane", "bulk", "--idempotency-key", "signup-7"),
            *("--occurred-at", "2026-03-01 10:30+01:00"),
        ]
        first = run("add", ADA, "trial:Boolean=t", *options)
        document = json.loads(inbox.hget(KEYS.inbox, first.stdout.strip()) or "")
        assert document == {
            "v": 1,
            "email": ADA,
            "attributes": [{"type": "Boolean", "key": "trial", "value": True, "source": "survey"}],
            "occurred_at": "2026-03-01T09:30:00.000000Z",
            "lane": "bulk",
            "idempotency_key": "signup-7",
        }
        again = run("add", ADA, "trial:Boolean=1", *options)
        assert again.stdout == first.stdout
        assert "was already queued" in again.stderr
        other = run("add", ADA, "trial:Boolean=f", *options)
        assert (other.exit_code, other.stdout) == (2, "")
        assert f"belongs to job {first.stdout.strip()}, which has other content" in other.stderr

    def test_a_time_without_a_zone_is_utc(self, inbox: redis.Redis) -> None:
        added = run("add", ADA, "plan=pro", "--occurred-at", "2026-03-01T09:30")
        document = json.loads(inbox.hget(KEYS.inbox, added.stdout.strip()) or "")
        assert document["occurred_at"] == "2026-03-01T09:30:00.000000Z"

    def test_a_hint_names_the_account(self, inbox: redis.Redis) -> None:
        environ = {"COURIER_ACCOUNTS": "eu,us"}
        result = run("add", ADA, "plan=pro", "--account", "us", "--wait", "0", **environ)
        assert "Ask again with: courier outcomes --account us --job " in result.stderr

    def test_still_pending_when_the_time_is_up(self, inbox: redis.Redis) -> None:
        result = run("add", ADA, "plan=pro", "--wait", "0.2", "--format", "json")
        assert result.exit_code == 4
        [outcome] = json.loads(result.stdout)
        assert outcome["status"] == "pending"
        assert f"courier outcomes --job {outcome['job_id']}" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "Missing argument"),
            ([ADA], "Missing argument"),
            ([ADA, "age"], "KEY=VALUE"),
            ([ADA, "age:Integer"], "KEY=VALUE"),
            ([ADA, "=8"], "key"),
            (
                [ADA, "age:Integer=eight"],
                "attributes[0].value (key age): an Integer is a whole number",
            ),
            ([ADA, "age:Number=8"], "attributes[0].type (key age): must be one of"),
            ([ADA, "a b=8"], "ASCII letters, digits and underscores"),
            ([ADA, "plan="], "(key plan): must have 1 to 255 characters"),
            ([ADA, "n=1", "n=2"], "a job sets a key once"),
            (["ada", "plan=pro"], 'email: has no "@"'),
            ([ADA, "plan=pro", "--occurred-at", "yesterday"], "--occurred-at must be ISO 8601"),
            ([ADA, "plan=pro", "--occurred-at", "2200-01-01"], "5 minutes in the future"),
            ([ADA, "plan=pro", "--lane", "fast"], "'fast' is not one of"),
            ([ADA, "plan=pro", "--account", "eu"], "COURIER_ACCOUNTS"),
            ([ADA, "plan=pro", "--idempotency-key", ""], "idempotency_key"),
            ([ADA, "plan=pro", "--wait", "-1"], "--wait"),
        ],
    )
    def test_wrong_input_sends_nothing(
        self, inbox: redis.Redis, arguments: list[str], said: str
    ) -> None:
        result = run("add", *arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stdout == ""
        assert inbox.keys() == []

    def test_every_wrong_attribute_is_named_at_once(self, inbox: redis.Redis) -> None:
        result = run("add", "ada", "age:Integer=eight", "score:Decimal=1,5", "plan=pro")
        assert "(key age): " in result.stderr
        assert "(key score): " in result.stderr
        assert "email: " in result.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "command",
    [["add", ADA, "plan=pro"], ["outcomes", ADA], ["outcomes"], ["outcomes", "--follow"], ["ping"]],
)
def test_without_redis_a_command_says_so(command: list[str], stand_in: SandboxProcess) -> None:
    result = run(
        *command,
        COURIER_REDIS_URL=f"redis://:s3cr3t@127.0.0.1:{free_port()}/0",
        COURIER_ENQUEUE_TIMEOUT="1",
        CHARTMOGUL_API_URL=stand_in.url,
        CHARTMOGUL_API_KEY=DEFAULT_API_KEY,
    )
    assert result.exit_code == 3
    assert "check COURIER_REDIS_URL" in result.output
    assert "s3cr3t" not in result.output


class TestPing:
    @pytest.fixture(autouse=True)
    def _environment(
        self, server: EmbeddedRedis, stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURIER_REDIS_URL", server.url)
        monkeypatch.setenv("CHARTMOGUL_API_URL", stand_in.url)

    def test_a_good_key(self) -> None:
        result = run("ping", CHARTMOGUL_API_KEY=DEFAULT_API_KEY)
        assert result.exit_code == 0
        assert result.output.count(" yes ") == 2
        assert "the API key is valid" in result.output
        assert DEFAULT_API_KEY not in result.output

    def test_a_bad_key(self) -> None:
        result = run("ping", "--format", "json", CHARTMOGUL_API_KEY="a-wrong-key")
        assert result.exit_code == 1
        to_redis, to_chartmogul = json.loads(result.stdout)
        assert to_redis["ok"] == "yes"
        assert to_chartmogul["ok"] == "NO"
        assert "No valid API key provided (HTTP 401)" in to_chartmogul["answer"]
        assert "a-wrong-key" not in result.output

    def test_no_key(self) -> None:
        result = run("ping")
        assert result.exit_code == 2
        assert "CHARTMOGUL_API_KEY" in result.stderr

    def test_a_chartmogul_that_fails(self, stand_in: SandboxProcess) -> None:
        stand_in.configure(faults=[Fault(kind="status", status=500)])
        assert run("ping", CHARTMOGUL_API_KEY=DEFAULT_API_KEY).exit_code == 1

    def test_a_refusal_that_repeats_the_key(self, stand_in: SandboxProcess) -> None:
        """PF1"""
        message = json.dumps({"message": f"\x1b[31mNo valid API key: {DEFAULT_API_KEY}"})
        stand_in.configure(faults=[Fault(kind="status", status=401, content=message)])
        result = run("ping", CHARTMOGUL_API_KEY=DEFAULT_API_KEY)
        assert result.exit_code == 1
        assert "No valid API key: *** (HTTP 401)" in result.output
        assert "\x1b" not in result.output

    @pytest.mark.parametrize("path", ["", "/v2", "/v1/v1"])
    def test_a_wrong_url(self, stand_in: SandboxProcess, path: str) -> None:
        """UP1"""
        url = stand_in.url.removesuffix("/v1") + path
        result = run("ping", CHARTMOGUL_API_KEY=DEFAULT_API_KEY, CHARTMOGUL_API_URL=url)
        assert result.exit_code == 1
        assert "is CHARTMOGUL_API_URL right?" in result.output

    @pytest.mark.parametrize("content", ["<html>Welcome</html>", "{}"])
    def test_a_200_that_is_no_pong(self, stand_in: SandboxProcess, content: str) -> None:
        stand_in.configure(faults=[Fault(kind="status", status=200, content=content)])
        result = run("ping", CHARTMOGUL_API_KEY=DEFAULT_API_KEY)
        assert result.exit_code == 1
        assert "is CHARTMOGUL_API_URL right?" in result.output

    def test_a_chartmogul_that_cannot_be_reached(self) -> None:
        result = run(
            "ping",
            CHARTMOGUL_API_KEY=DEFAULT_API_KEY,
            CHARTMOGUL_API_URL=f"http://127.0.0.1:{free_port()}/v1",
        )
        assert result.exit_code == 3
        assert "no connection to 127.0.0.1:" in result.output


def test_a_worker_without_a_key_says_which_variable_to_set() -> None:
    result = run("worker")
    assert result.exit_code == 2
    assert "set CHARTMOGUL_API_KEY or CHARTMOGUL_API_KEY_DEFAULT" in result.stderr
    result = run("worker", COURIER_ACCOUNTS="eu,us", CHARTMOGUL_API_KEY="x")
    assert result.exit_code == 2
    assert "no API key for the account 'us': set CHARTMOGUL_API_KEY_US" in result.stderr


class TestOutcomes:
    @pytest.fixture(autouse=True)
    def _environment(self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("COURIER_REDIS_URL", server.url)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            self.client = client
            self.inbox = Inbox(client, KEYS, retention_s=1000)
            yield

    def end(self, count: int = 1, email: str = ADA) -> list[str]:
        job_ids = [new_job_id() for _ in range(count)]
        for job_id in job_ids:
            taken = Taken(job_id=job_id, wire="", entry=f"live 1 {job_id}")
            assert self.inbox.reject(taken, "no job", email=email)
        return job_ids

    def shown(self, *arguments: str) -> list[str]:
        result = run("outcomes", *arguments, "--format", "jsonl")
        assert result.exit_code == 0, result.output
        return [json.loads(line)["job_id"] for line in result.stdout.splitlines()]

    def test_of_an_email_newest_first(self) -> None:
        job_ids = self.end(3)
        self.end(1, email="two@example.com")
        assert self.shown(ADA) == job_ids[::-1]
        assert self.shown(" ada@EXAMPLE.com ") == job_ids[::-1]
        assert self.shown(ADA, "--limit", "2") == job_ids[:0:-1]

    def test_of_one_job(self) -> None:
        job_id, _ = self.end(2)
        assert self.shown("--job", job_id) == [job_id]

    def test_the_latest_of_all(self) -> None:
        job_ids = self.end(2) + self.end(1, email="two@example.com")
        assert self.shown() == job_ids[::-1]

    def test_of_some_statuses_or_of_the_last_minutes(self) -> None:
        job_ids = self.end(2)
        for chosen in ([], [ADA]):
            found = self.shown(*chosen, "--status", "invalid", "--status", "failed")
            assert found == job_ids[::-1]
            assert self.shown(*chosen, "--since", "5m") == job_ids[::-1]
            assert run("outcomes", *chosen, "--status", "failed").exit_code == 1
        long_ago = int((NOW - timedelta(days=365)).timestamp() * 1_000_000)
        key = KEYS.of("outcome", job_ids[0])
        kept = json.loads(self.client.get(key))
        self.client.set(key, json.dumps(kept | {"a": str(long_ago)}))
        assert self.shown(ADA, "--since", "5m") == [job_ids[1]]

    def test_nothing_found(self) -> None:
        result = run("outcomes", ADA)
        assert result.exit_code == 1
        assert "Nothing found" in result.stderr
        assert "worker" not in result.stderr

    def test_nothing_found_since_no_worker_runs(self) -> None:
        added = run("add", ADA, "plan=pro").stdout.strip()
        result = run("outcomes")
        assert result.exit_code == 1
        assert "1 job not accepted yet, is a worker running?" in result.stderr
        assert self.shown("--job", added) == self.shown(ADA) == [added]

    @pytest.mark.parametrize(
        "arguments",
        [
            [ADA, "--job", "x"],
            [ADA, "--follow"],
            ["--job", "x", "--follow"],
            ["--status", "lost"],
            ["--since", "yesterday"],
            ["--limit", "0"],
            ["--format", "xml"],
            ["--account", "eu"],
        ],
    )
    def test_wrong_usage(self, arguments: list[str]) -> None:
        result = run("outcomes", *arguments)
        assert result.exit_code == 2
        assert "Error: " in result.stderr


EVIL = "[red]x[/red] \x1b[31mred\x1b[0m \x07\x9b2J\r\n\u202egone [link=http://x]y[/link]"


class TestTheFormsOfOutput:
    def test_json_is_whole(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_outcomes([OUTCOME, OUTCOME], "json")
        assert json.loads(capsys.readouterr().out) == [OUTCOME.to_dict()] * 2
        show_outcomes([], "json")
        assert json.loads(capsys.readouterr().out) == []

    def test_json_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_outcomes([OUTCOME, replace(OUTCOME, message=EVIL)], "jsonl")
        lines = capsys.readouterr().out.split("\n")
        assert [json.loads(line)["message"] for line in lines[:-1]] == [None, EVIL]

    def test_csv_holds_what_it_was_given(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = 'a, "quoted"\nmessage'
        show_outcomes([replace(OUTCOME, status="refused", message=text)], "csv")
        [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert tuple(row) == OUTCOME_COLUMNS
        assert (row["outcome"], row["why"], row["attributes"]) == ("refused", text, "channel, age")

    @pytest.mark.parametrize("format_", ["plain", None])
    def test_plain_is_what_programs_get(
        self, capsys: pytest.CaptureFixture[str], format_: Any
    ) -> None:
        show_outcomes([OUTCOME], format_)
        header, row = capsys.readouterr().out.splitlines()
        assert header.split() == list(OUTCOME_COLUMNS)
        assert ADA in row
        assert OUTCOME.job_id in row
        show_outcomes([OUTCOME], format_, header=False)
        assert capsys.readouterr().out.splitlines()[0].startswith("2026-03-01 09:30:00  ada@")

    @pytest.mark.parametrize("format_", ["plain", "table"])
    @pytest.mark.parametrize("width", ["80", "200"])
    def test_nothing_that_others_wrote_steers_the_terminal(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        format_: Any,
        width: str,
    ) -> None:
        monkeypatch.setenv("COLUMNS", width)
        evil = replace(
            OUTCOME,
            status="refused",
            email=f"{EVIL}@example.com",
            keys=(EVIL,),
            message=EVIL,
            customers=(Customer(uuid=None, external_id=EVIL),),
        )
        show_outcomes([evil], format_)
        out = capsys.readouterr().out
        assert all(char.isprintable() or char == "\n" for char in out)
        assert "[red]" in out, "and shown as it is written, not as rich's markup"
        assert "[/link]" in out.replace("\n", "")

    @pytest.mark.parametrize("width", [72, 80, 120, 159, 160, 200])
    def test_a_table_fits_the_terminal_and_cuts_no_job_id(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        again = NOW + timedelta(minutes=5)
        pending = replace(
            OUTCOME, status="pending", message="HTTP 500", next_attempt_at=again, customers=()
        )
        long = "a.very.long.address.of.somebody@subdomain.of.a.long.example.com"
        show_outcomes(
            [OUTCOME, pending, replace(OUTCOME, email=long, keys=("utm_campaign",) * 9)], "table"
        )
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= width
        assert out.count(OUTCOME.job_id) == 3
        for word in ("delivered", "pending", "HTTP 500", "cus_0001"):
            assert word in out
        if width >= 80:
            assert ADA in out

    def test_an_empty_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        for format_ in ("table", "plain", "csv", "json", "jsonl"):
            show_outcomes([], format_)  # type: ignore[arg-type]
        assert "Traceback" not in capsys.readouterr().out


def test_no_command_is_missing_here() -> None:
    assert isinstance(main, click.Group)
    assert sorted(main.list_commands(click.Context(main))) == COMMANDS

"""Which settings hold in a process: those of `configure()`, else Django's, else the environment's;
and under a test runner none that nobody named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from attribute_courier import NotConfigured, SettingsError, add_attributes, configure
from attribute_courier.config import Secret, Settings, load_settings
from attribute_courier.config.running_tests import running_tests
from attribute_courier.producers import Producer, default_producer
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys

ADA = "ada@example.com"
NOWHERE = "redis://127.0.0.1:1/0"


def django_with(monkeypatch: pytest.MonkeyPatch, **settings: object) -> SimpleNamespace:
    """What an application has imported that has set Django up with these settings."""
    conf = SimpleNamespace(settings=SimpleNamespace(configured=True, **settings))
    monkeypatch.setitem(sys.modules, "django.conf", conf)  # type: ignore[arg-type]
    return conf


class TestConfigure:
    def test_holds_before_and_after_the_first_use(self, server: EmbeddedRedis) -> None:
        configure(Settings(redis_url=NOWHERE))
        first = default_producer()
        assert first is default_producer()
        configure(Settings(redis_url=server.url))
        receipt = add_attributes(ADA, {"plan": "pro"})
        assert default_producer() is not first
        with redis.Redis.from_url(server.url) as client:
            assert client.hexists(Keys("default").inbox, receipt.job_id)

    def test_leaves_receipts_where_their_jobs_are(self, server: EmbeddedRedis) -> None:
        configure(Settings(redis_url=server.url))
        receipt = add_attributes(ADA, {"plan": "pro"})
        configure(Settings(redis_url=NOWHERE))
        outcome = receipt.outcome()
        assert outcome is not None
        assert outcome.status == "pending"

    def test_goes_before_django_and_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COURIER_TIMEOUT", "7s")
        monkeypatch.setenv("COURIER_ENQUEUE_TIMEOUT", "7s")
        django_with(monkeypatch, ATTRIBUTE_COURIER={"ENQUEUE_TIMEOUT": 5})
        found = default_producer().settings
        assert (found.timeout_s, found.enqueue_timeout_s) == (7, 5)
        configure(Settings(enqueue_timeout_s=3))
        found = default_producer().settings
        assert (found.timeout_s, found.enqueue_timeout_s) == (10, 3)
        configure(None)
        assert default_producer().settings.enqueue_timeout_s == 5

    def test_of_none_reads_the_environment_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert default_producer().settings.timeout_s == 10
        monkeypatch.setenv("COURIER_TIMEOUT", "7s")
        assert default_producer().settings.timeout_s == 10, "it is read once"
        configure(None)
        assert default_producer().settings.timeout_s == 7

    @pytest.mark.parametrize("wrong", [{"redis_url": NOWHERE}, NOWHERE, Settings])
    def test_takes_settings_alone(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match="takes Settings or None"):
            configure(wrong)

    def test_makes_one_producer_for_all_threads(self) -> None:
        """Every thread uses the newest settings, whoever else configures meanwhile."""
        rounds, found = 200, []
        barrier = threading.Barrier(5)

        def use() -> None:
            barrier.wait()
            for _ in range(rounds):
                found.append(default_producer())

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait()
        for number in range(1, 50):
            configure(Settings(max_parallel=number))
        for thread in threads:
            thread.join()
        assert default_producer().settings.max_parallel == 49
        by_settings = {each.settings.max_parallel: each for each in found}
        assert all(by_settings[each.settings.max_parallel] is each for each in found)


class TestDjango:
    def test_that_is_not_imported_or_not_set_up_has_no_say(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = django_with(monkeypatch, ATTRIBUTE_COURIER={"ENQUEUE_TIMEOUT": 5})
        conf.settings.configured = False
        assert default_producer().settings.enqueue_timeout_s == 2
        conf.settings.configured = True
        assert default_producer().settings.enqueue_timeout_s == 5, "it is, once it is set up"

    def test_that_is_overridden_in_a_test_is_followed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = django_with(monkeypatch, ATTRIBUTE_COURIER={"ENABLED": False})
        first = default_producer()
        assert not first.settings.enabled
        assert default_producer() is first
        conf.settings.ATTRIBUTE_COURIER["ENABLED"] = True
        assert default_producer().settings.enabled

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ([("REDIS_URL", NOWHERE)], "ATTRIBUTE_COURIER: must be a dict"),
            ({"REDIS_ULR": NOWHERE}, r'ATTRIBUTE_COURIER\["REDIS_ULR"\] .*did you mean REDIS_URL'),
            ({"ENABLED": "maybe"}, r'ATTRIBUTE_COURIER\["ENABLED"\]: must be true or false'),
        ],
    )
    def test_with_wrong_settings_is_told_so(
        self, monkeypatch: pytest.MonkeyPatch, wrong: object, says: str
    ) -> None:
        django_with(monkeypatch, ATTRIBUTE_COURIER=wrong)
        with pytest.raises(SettingsError, match=says):
            add_attributes(ADA, {"plan": "pro"})

    def test_for_real(self, server: EmbeddedRedis, tmp_path: Path) -> None:
        """A project's settings, its `override_settings`, and a worker with the same settings."""
        pytest.importorskip("django")
        (tmp_path / "project_settings.py").write_text(
            f'ATTRIBUTE_COURIER = {{"REDIS_URL": "{server.url}", "RATE_LIMIT": 7}}\n'
        )
        program = """
import os, sys
from attribute_courier import add_attributes, default_producer
assert "django" not in sys.modules
os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"
import django
django.setup()
from django.test import override_settings
print(default_producer().settings.rate_limit, add_attributes("ada@example.com", {"n": 1}).job_id)
with override_settings(ATTRIBUTE_COURIER={"ENABLED": False}):
    print(add_attributes("ada@example.com", {"n": 1}).wait().status)
print(default_producer().settings.rate_limit)
from attribute_courier.worker import app
print(app.settings.rate_limit)
"""
        done = run(program, tmp_path)
        assert done.returncode == 0, done.stderr
        (rate, job_id), *others = (line.split() for line in done.stdout.splitlines())
        assert [rate, *(each[0] for each in others)] == ["7.0", "disabled", "7.0", "7.0"]
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.hkeys(Keys("default").inbox) == [job_id]


def run(
    program: str, cwd: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """A program of an application, which no test runner has started."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    path = cwd / "program.py"
    path.write_text(program)
    return subprocess.run(
        [sys.executable, *(arguments or (str(path),))],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(cwd), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


class TestUnderATestRunner:
    """Nothing goes to a default address unasked."""

    def test_a_job_that_nobody_captures_is_an_error_that_says_what_to_do(self) -> None:
        for ask in (
            lambda: add_attributes(ADA, {"plan": "pro"}),
            lambda: Producer(load_settings()).add_many([(ADA, {"plan": "pro"})]),
            lambda: default_producer().outcomes(ADA),
            lambda: default_producer().reading(),
        ):
            with pytest.raises(NotConfigured) as caught:
                ask()
            for way in ("attribute_courier.testing", "COURIER_ENABLED", "COURIER_REDIS_URL"):
                assert way in str(caught.value)

    def test_an_address_that_somebody_named_is_used(self, server: EmbeddedRedis) -> None:
        configure(Settings(redis_url=server.url))
        assert add_attributes(ADA, {"plan": "pro"}).outcome() is not None
        with pytest.raises(Exception, match="does not answer"):
            Producer(Settings(redis_url=Secret(NOWHERE))).outcomes(ADA)

    TEST = """
import threading, unittest
from attribute_courier import NotConfigured, add_attributes

class Test(unittest.TestCase):
    def test(self):
        with self.assertRaisesRegex(NotConfigured, RUNNER):
            add_attributes("ada@example.com", {"plan": "pro"})

if __name__ == "__main__":
    unittest.main()
"""

    @pytest.mark.parametrize(
        ("arguments", "runner"),
        [
            (("-m", "pytest", "-q", "-p", "no:cacheprovider", "program.py"), "pytest"),
            (("-m", "unittest", "program"), "unittest"),
            (("program.py",), "unittest"),
        ],
    )
    def test_it_is_known(self, tmp_path: Path, arguments: tuple[str, ...], runner: str) -> None:
        program = self.TEST.replace("RUNNER", repr(f"^{runner} runs this"))
        done = run(program, tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_djangos_is_known(self, tmp_path: Path) -> None:
        pytest.importorskip("django")
        program = """
import django
from django.conf import settings
from django.core.management import call_command
settings.configure()
django.setup()
call_command("test", "program_tests")
"""
        test = self.TEST.replace("RUNNER", '"^Django\'s test runner runs this"')
        (tmp_path / "program_tests.py").write_text(test)
        done = run(program, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Ran 1 test" in done.stderr

    def test_a_program_without_one_uses_the_default_address(self, tmp_path: Path) -> None:
        """Also where it has imported unittest, as some libraries do."""
        program = """
import unittest.mock
from attribute_courier.config.running_tests import running_tests
print(repr(running_tests()))
"""
        done = run(program, tmp_path)
        assert done.stdout == "''\n", done.stderr
        assert running_tests() == "pytest"

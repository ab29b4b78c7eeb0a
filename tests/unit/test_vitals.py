"""A worker's signs of life: the file that holds them, and what makes a worker unhealthy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.thread import TaskPool
from celery.worker import state
from click.testing import CliRunner

from attribute_courier.cli import main
from attribute_courier.config import load_settings
from attribute_courier.config.connections import connect_briefly
from attribute_courier.config.redis_errors import RedisError
from attribute_courier.config.vitals import (
    UntrustedDirectory,
    Vitals,
    VitalsFile,
    all_vitals,
    directory_path,
)
from attribute_courier.operate.health import MAX_AGE_S, MAX_STOP_S, judge, look
from attribute_courier.worker.liveness import Liveness

from ..waiting import wait_until

NOW_S = 50_000.0
WELL = Vitals(
    name="courier@here",
    pid=os.getpid(),
    pool="thread",
    stamped_s=NOW_S,
    consumer_s=NOW_S,
    ticker_s=NOW_S,
    busy=1,
    slots=2,
    newest_s=NOW_S - 10_000,
    task_limit_s=340,
    stopping_s=None,
)
LONG_AGO_S = NOW_S - MAX_AGE_S - 1


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return Path(directory_path())


@contextmanager
def kept(vitals: Vitals = WELL) -> Iterator[VitalsFile]:
    file = VitalsFile(vitals)
    try:
        yield file
    finally:
        file.remove()


class TestTheFile:
    def test_says_what_was_written_last_and_is_gone_in_the_end(self, directory: Path) -> None:
        assert all_vitals() == []
        with kept() as file:
            assert all_vitals() == [WELL]
            later = replace(WELL, stamped_s=NOW_S + 1, busy=0)
            file.write(later)
            assert all_vitals() == [later]
        assert all_vitals() == []
        assert not directory.exists()

    def test_is_for_the_owner_alone(self, directory: Path) -> None:
        before = os.umask(0)
        try:
            with kept():
                [path] = directory.iterdir()
                assert path.stat().st_mode & 0o777 == 0o600
                assert directory.stat().st_mode & 0o777 == 0o700
        finally:
            os.umask(before)

    def test_several_workers_have_one_each(self) -> None:
        with kept(), kept(replace(WELL, name="second@here")), kept(replace(WELL, pid=1)):
            assert len(all_vitals()) == 3

    def test_shows_that_its_process_is_gone(self) -> None:
        killed = subprocess.run(
            [
                *(sys.executable, "-c"),
                "import os\n"
                "from tests.unit.test_vitals import WELL, VitalsFile\n"
                "file = VitalsFile(WELL)\n"
                "os.kill(os.getpid(), 9)\n",
            ],
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert killed.returncode == -9
        [vitals] = all_vitals()
        assert not vitals.runs
        with kept(replace(WELL, name="another@here")):
            assert len(all_vitals()) == 2, "the other worker may be missed"
        with kept():
            assert [each.runs for each in all_vitals()] == [True]

    def test_a_killed_worker_is_forgotten_after_an_hour(self, directory: Path) -> None:
        VitalsFile(WELL)._close()
        assert [each.runs for each in all_vitals()] == [False]
        for later_s in (3_601, -1):  # before the machine's last start, times were others
            VitalsFile(WELL)._close()
            with kept(replace(WELL, name="another@here", stamped_s=NOW_S + later_s)):
                assert [each.name for each in all_vitals()] == ["another@here"]

    def test_a_child_of_the_process_does_not_keep_it(self) -> None:
        with kept() as file:
            ours, theirs = os.pipe()
            child = os.fork()
            if not child:  # pragma: no cover
                os.close(theirs)
                os.read(ours, 1)
                os._exit(0)
            file._close()
            wait_until(lambda: [each.runs for each in all_vitals()] == [False])
            os.close(theirs)
            os.waitpid(child, 0)
            os.close(ours)

    def test_is_made_again_where_somebody_removed_it(self, directory: Path) -> None:
        with kept() as file:
            [path] = directory.iterdir()
            path.unlink()
            directory.rmdir()
            assert all_vitals() == []
            file.write(WELL)
            assert all_vitals() == [WELL]

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x"}', "\0" * 10])
    def test_what_cannot_be_read_is_passed_over(self, directory: Path, content: str) -> None:
        with kept():
            (directory / "other.worker").write_text(content)
            (directory / "away.worker").symlink_to("/dev/zero")
            os.mkfifo(directory / "pipe.worker")
            assert all_vitals() == [WELL]


class TestTheDirectoryIsNotTrusted:
    """Anybody may make one of that name in /tmp first."""

    def refused(self) -> None:
        with pytest.raises(UntrustedDirectory, match="attribute-courier-"):
            VitalsFile(WELL)
        with pytest.raises(UntrustedDirectory, match="attribute-courier-"):
            all_vitals()
        result = CliRunner().invoke(main, ["health"])
        assert result.exit_code == 1
        assert "attribute-courier-" in result.output

    def test_where_it_is_a_link(self, directory: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to(tmp_path / "elsewhere")
        self.refused()
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_where_others_may_write(self, directory: Path) -> None:
        directory.mkdir()
        directory.chmod(0o777)
        self.refused()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_where_it_is_somebody_elses(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        os.chown(directory, 12345, 12345)
        self.refused()

    def test_where_it_is_a_file(self, directory: Path) -> None:
        directory.write_text("")
        self.refused()


@pytest.mark.parametrize(
    ("vitals", "fault"),
    [
        (WELL, ""),
        (replace(WELL, runs=False), "its process is gone"),
        (replace(WELL, stamped_s=LONG_AGO_S), "its process has stood still for 61 s"),
        (replace(WELL, consumer_s=LONG_AGO_S), "its main thread, which takes messages, has hung"),
        (replace(WELL, ticker_s=LONG_AGO_S), "its ticker has hung for 61 s"),
        (replace(WELL, busy=2), "each of its 2 threads has been stuck for 10000 s"),
        (replace(WELL, busy=2, newest_s=NOW_S - 339), ""),
        (replace(WELL, busy=2, pool="prefork"), "each of its 2 processes has been stuck"),
        # A worker that stops takes no messages, and its ticker has ended.
        (replace(WELL, stopping_s=NOW_S - 100, consumer_s=0.0, ticker_s=0.0), ""),
        (replace(WELL, stopping_s=NOW_S - MAX_STOP_S - 1), "has been stopping for 301 s"),
        # In the pool `solo`, the main thread is busy with the task.
        (replace(WELL, pool="solo", slots=1, newest_s=NOW_S - 100, consumer_s=LONG_AGO_S), ""),
        (replace(WELL, pool="solo", slots=1), "each of its 1 threads has been stuck"),
        (replace(WELL, pool="solo", slots=1, busy=0, consumer_s=LONG_AGO_S), "its main thread"),
    ],
)
def test_what_makes_a_worker_unhealthy(vitals: Vitals, fault: str) -> None:
    found = judge([vitals], NOW_S)
    if not fault:
        assert (found.faults, len(found.said)) == ((), 1)
    else:
        assert found.said == ()
        assert found.faults[0].startswith(f"worker courier@here (pid {os.getpid()}): {fault}")


def test_one_unhealthy_worker_of_several_is_enough() -> None:
    found = judge([WELL, replace(WELL, name="second@here", runs=False)], NOW_S)
    assert (len(found.faults), len(found.said)) == (1, 1)


def test_no_worker_at_all_is_unhealthy_and_others_are_not_asked_with_a_pid() -> None:
    assert "no worker of this user runs here" in look().faults[0]
    with kept():
        assert "no worker with the process id 1 of" in look(pid=1).faults[0]


class TestWhatTheWorkerWrites:
    @pytest.fixture
    def trouble(self) -> SimpleNamespace:
        return SimpleNamespace(present=False)

    @pytest.fixture
    def liveness(self, trouble: Any) -> Iterator[Liveness]:
        found = Liveness(trouble, timeout_s=10)
        found.start(SimpleNamespace(hostname="courier@here", pool_cls=TaskPool, concurrency=2))
        yield found
        found.end()
        assert all_vitals() == []

    def test_a_try_to_connect_is_a_sign_of_life(
        self, liveness: Liveness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name server that does not answer keeps a thread for half a minute, again and again."""
        before = liveness.vitals()
        assert before.ticker_s == before.consumer_s, "the main thread has yet to start the ticker"
        monkeypatch.setenv("COURIER_REDIS_URL", "redis://127.0.0.1:1/0")
        with pytest.raises(RedisError):
            connect_briefly(load_settings()).ping()
        assert liveness.vitals().consumer_s > before.consumer_s

    def test_tasks_that_redis_holds_up_are_not_stuck(
        self, liveness: Liveness, trouble: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = [SimpleNamespace(id="one"), SimpleNamespace(id="two")]
        monkeypatch.setattr(state, "active_requests", requests)
        first = liveness.vitals()
        assert (first.busy, first.slots) == (2, 2)
        assert liveness.vitals().newest_s == first.newest_s, "the same tasks run"
        trouble.present = True
        assert liveness.vitals().newest_s > first.newest_s
        trouble.present = False
        well = liveness.vitals()
        assert first.newest_s < well.newest_s < well.stamped_s


def test_it_imports_next_to_nothing() -> None:
    """A container's engine asks every half minute: each import is CPU time for nothing."""
    code = (
        "import sys\n"
        "sys.argv = ['courier', 'health']\n"
        "from attribute_courier.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "1"
    heavy = {"celery", "kombu", "redis", "requests", "urllib3", "marshmallow", "click", "rich"}
    assert not heavy & set(modules)
    assert "ssl" not in modules

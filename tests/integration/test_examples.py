"""The applications in examples/, run as their first lines say, with a real Redis and worker."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from attribute_courier.jobs.outcome import STATUSES

from ..conftest import Courier
from ..waiting import wait_until
from .test_documentation import Command, Served, environment, free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
SITES = {"django_site": "project.py", "flask_site": "app.py", "fastapi_site": "app.py"}
LONG = pytest.mark.long
README = (EXAMPLES / "README.md").read_text("utf-8")

pytest.importorskip("flask")
pytest.importorskip("fastapi")
pytest.importorskip("gunicorn")


def commands(name: str) -> list[str]:
    """What the first lines of an application say to run."""
    text = (EXAMPLES / name / SITES[name]).read_text("utf-8")
    return re.findall(r"^    (.*)$", text.split('"""')[1], re.M)


class Site:
    """A running example."""

    def __init__(self, url: str, served: Served) -> None:
        self.url = url
        self.served = served
        self._http = requests.Session()
        self._http.trust_env = False

    def get(self, path: str) -> requests.Response:
        return self._http.get(self.url + path, timeout=60)

    def sign_up(self, **asked: object) -> requests.Response:
        return self._http.post(f"{self.url}/sign-ups", json=asked, timeout=60)

    def outcome(self, path: str, status: str) -> dict[str, Any]:
        """A job's outcome, once it is this one."""

        def found() -> dict[str, Any]:
            answer = self.get(path)
            assert answer.status_code in (200, 404), answer.text
            document: dict[str, Any] = answer.json()
            return document if document.get("status") == status else {}

        return wait_until(found, timeout_s=60, what=f"{path} is {status}")


@contextmanager
def running(command: str, folder: Path, courier: Courier) -> Iterator[Site]:
    """Serve with this command, at a free port."""
    port = free_port()
    assert command.count("8000") == 1
    (folder / "../../.courier").mkdir()
    (folder / "../../.courier/redis-url").write_text(courier.environ["COURIER_REDIS_URL"] + "\n")
    [export] = re.findall(r"^\$ (export .*)$", README, re.M)
    # gunicorn has a socket in the home directory.
    environ = {"REDIS_URL": run_shell(f"{export}; echo $REDIS_URL", folder), "HOME": str(folder)}
    with Served(Command(command.replace("8000", str(port)), ()), folder, **environ) as served:
        site = Site(f"http://127.0.0.1:{port}", served)

        def answers() -> bool:
            assert served.process.running, served.printed
            try:
                return site.get("/").status_code == 404
            except requests.ConnectionError:
                return False

        wait_until(answers, timeout_s=60, what="the application answers")
        yield site
        served.stop()


def copy_of(name: str, tmp_path: Path) -> Path:
    """The example in a directory of its own, with its database."""
    folder = tmp_path / "examples" / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "*.db"))
    for command in commands(name):
        if "migrate" in command:
            run(command, folder)
    return folder


def run_shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *shlex.split(command.removeprefix("python "))],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def server_of(name: str) -> str:
    [command] = [each for each in commands(name) if each.startswith(("gunicorn", "uvicorn"))]
    return command


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(SITES)


@pytest.mark.parametrize("name", SITES)
def test_its_own_tests_pass(name: str, tmp_path: Path) -> None:
    folder = copy_of(name, tmp_path)
    [command] = [each for each in commands(name) if each.endswith("test")]
    assert re.search(r"2 passed|Ran 3 tests", run(command, folder))


GUNICORN = """
accesslog = "-"
access_log_format = "process %(p)s %(m)s"


def when_ready(server):
    from attribute_courier import add_attributes, default_producer

    add_attributes("0@load.example", {"n": 0})  # before it forks its workers
    default_producer()._redis.client_setname("parent")
"""
"""gunicorn reads it as `gunicorn.conf.py`. So the process that forks has a connection in use."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=LONG if each != "flask_site" else ()) for each in SITES]
)
def test_a_sign_up_is_delivered_and_errors_are_said(
    name: str, courier: Courier, tmp_path: Path
) -> None:
    courier.start_worker()
    folder = copy_of(name, tmp_path)
    (folder / "gunicorn.conf.py").write_text(GUNICORN)
    with running(server_of(name), folder, courier) as site:
        sign_up, ask = re.findall(r"^\$ curl (.*)\n(.*)$", README, re.M)
        answer = site.sign_up(**json.loads(shlex.split(sign_up[0])[1]))
        assert answer.status_code == 202, answer.text
        assert answer.json().keys() == json.loads(sign_up[1]).keys()
        path = answer.json()["outcome"]
        assert site.outcome(path, "delivered") == json.loads(ask[1])
        assert courier.custom("ada@example.com")["channel"] == "Facebook"

        refused = site.sign_up(email="ada.example.com", channel="Facebook")
        assert refused.status_code == (422 if name == "fastapi_site" else 400)
        assert "email: has no" in refused.text
        for nothing in ({"email": "ada@example.com"}, [], "text", None):
            answer = requests.post(f"{site.url}/sign-ups", json=nothing, timeout=60)
            assert answer.status_code in (400, 415, 422), answer.text
        assert site.get(path[:-4] + "0000").status_code == 404

        if name != "fastapi_site":
            assert_forked_workers_share_no_connection(site, courier)
        with courier_paused(courier):
            away = site.get(path) if name == "django_site" else site.sign_up(**SIGN_UP)
        assert away.status_code == 503
        assert "redis:" not in away.text
        assert "redis:" in site.served.printed, "the log says which Redis"


SIGN_UP = {"email": "two@example.com", "channel": "Podcast"}


@contextmanager
def courier_paused(courier: Courier) -> Iterator[None]:
    """Redis does not answer."""
    courier.server.pause()
    try:
        yield
    finally:
        courier.server.resume()


def assert_forked_workers_share_no_connection(site: Site, courier: Courier) -> None:
    """Both take sign-ups at once, and leave their parent's connection alone."""
    jobs: dict[str, str] = {}

    def sign_up(email: str) -> str:
        answer = requests.post(
            f"{site.url}/sign-ups", json={"email": email, "channel": "Ads"}, timeout=60
        )
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["outcome"]
        assert requests.get(site.url + found, timeout=60).json()["status"] in STATUSES
        return found.rpartition("/")[2]

    def both() -> bool:
        emails = [f"{len(jobs) + n}@load.example" for n in range(1, 31)]
        jobs.update(zip(emails, pool.map(sign_up, emails), strict=True))
        return len(set(re.findall(r"process (\S+) POST", site.served.printed))) == 2

    with ThreadPoolExecutor(8) as pool:
        wait_until(both, timeout_s=60, what="both processes have taken sign-ups")
    [parent] = [each for each in courier.client.client_list() if each["name"] == "parent"]
    assert parent["cmd"] == "client|setname", "nothing was sent over it since"
    for email, job_id in jobs.items():
        outcome = courier.outcomes.wait(job_id, 60)
        assert outcome is not None
        assert (outcome.email, outcome.status) == (email, "delivered")


@pytest.mark.long
def test_fastapi_answers_others_while_a_sign_up_waits_for_redis(
    courier: Courier, tmp_path: Path
) -> None:
    command = server_of("fastapi_site").replace(" --workers 2", "")  # one process, one loop
    with (
        running(command, copy_of("fastapi_site", tmp_path), courier) as site,
        ThreadPoolExecutor(1) as pool,
    ):

        def answered() -> bool:
            waiting = pool.submit(site.sign_up, **SIGN_UP)
            started, times_s = time.monotonic(), []
            while not waiting.done():
                requests.get(f"{site.url}/openapi.json", timeout=60).raise_for_status()
                times_s.append(time.monotonic() - started)
            return len([each for each in times_s if 0.3 < each < times_s[-1] - 0.3]) > 1

        with courier_paused(courier):
            wait_until(answered, timeout_s=90, what="others are answered meanwhile")


@pytest.mark.long
def test_with_the_outbox_a_sign_up_succeeds_while_redis_is_away(
    courier: Courier, tmp_path: Path
) -> None:
    folder = tmp_path / "examples" / "django_site"
    shutil.copytree(EXAMPLES / "django_site", folder)
    project = folder / "project.py"
    code = project.read_text("utf-8")
    changes = re.findall(r"^  \| `(.*)` \| `(.*)` \|$", README, re.M)
    assert len(changes) == 2
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    project.write_text(code)
    run("python project.py migrate", folder)
    courier.start_worker(COURIER_OUTBOX_URL=f"sqlite:///{folder / 'app.db'}")
    with running(server_of("django_site"), folder, courier) as site:
        with courier_paused(courier):
            answer = site.sign_up(**SIGN_UP)
        assert answer.status_code == 202
        site.outcome(answer.json()["outcome"], "delivered")

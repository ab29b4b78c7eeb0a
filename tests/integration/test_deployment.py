"""deploy/ by hand: what systemd or Kubernetes would run, as it is written, in a fresh place."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from attribute_courier.sandbox import LeashedProcess

from ..conftest import Courier
from ..deployment import (
    INSTALLED,
    MANIFESTS,
    ROOT,
    UNITS,
    documents,
    environment,
    exec_start,
    sessions,
)
from ..waiting import wait_until

BIN = Path(sys.executable).parent
PATH = f"{BIN}:/usr/bin:/bin"
DEPLOYMENTS = {
    each["metadata"]["name"]: each for each in documents(*MANIFESTS) if each["kind"] == "Deployment"
}


@pytest.fixture
def machine(courier: Courier, tmp_path: Path) -> Path:
    """A machine on which somebody has followed docs/deployment.md: its /etc, /run and home."""
    machine = tmp_path / "machine"
    for name in ("etc/systemd/system", "run", "home", "tmp"):
        (machine / name).mkdir(parents=True)
    for text in sessions("systemd"):
        if shlex.split(text)[0] == "install":
            done = subprocess.run(
                ["bash", "-c", text.replace("/etc/", f"{machine}/etc/")],
                cwd=ROOT,
                input=f"{courier.environ['CHARTMOGUL_API_KEY']}\n",
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    etc = machine / "etc/attribute-courier"
    for path in [etc, *etc.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"
    settings = etc / "environment"
    example = settings.read_text("utf-8")
    wrong = "redis://:password@redis.example:6379/0"
    assert example.count(wrong) == 1
    # The address of ChartMogul, too, since no test may reach the real one.
    settings.write_text(
        example.replace(wrong, courier.server.url)
        + f"CHARTMOGUL_API_URL={courier.environ['CHARTMOGUL_API_URL']}\n"
    )
    # As LoadCredential has it.
    (machine / "run/chartmogul-api-key").write_bytes((etc / "chartmogul-api-key").read_bytes())
    assert {path.name for path in (machine / "etc/systemd/system").iterdir()} == {
        unit.name for unit in UNITS
    }
    return machine


def start(courier: Courier, machine: Path, argv: list[str], **environ: str) -> LeashedProcess:
    """A process with no variables but these, in an empty home."""
    log = courier.logs / f"worker-{len(courier.workers)}.log"
    with log.open("wb") as stream:
        process = LeashedProcess(
            argv,
            cwd=machine / "home",
            env={"PATH": PATH, "TMPDIR": str(machine / "tmp"), "LANG": "C.UTF-8", **environ},
            stdout=stream,
            stderr=stream,
        )
    courier.workers.append(process)
    return process


def delivers(courier: Courier) -> bool:
    receipt = courier.producer.add_attributes("ada@example.com", {"plan": "pro"})
    [outcome] = courier.wait(receipt)
    return outcome.status == "delivered"


def answer(port: int, path: str) -> int | None:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            status: int = response.status
            return status
    except OSError:
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_worker_as_systemd_starts_it(courier: Courier, machine: Path) -> None:
    [unit] = [unit for unit in UNITS if "worker" in unit.name]
    command, *arguments = exec_start(unit)
    environ = environment(unit, credentials=machine / "run", etc=machine / "etc")
    argv = [command.replace(INSTALLED, f"{BIN}/"), *arguments]
    worker = start(courier, machine, argv, **environ)
    wait_until(lambda: " ready." in courier.log() or not worker.running, what="it is ready")
    assert worker.running, courier.log()
    assert delivers(courier)
    [name] = {each.name for each in courier.health().status().workers}
    assert name == f"1@{socket.gethostname()}"
    worker.send(signal.SIGTERM)
    assert worker.popen.wait(40) == 0
    assert list((machine / "home").iterdir()) == [], "it writes nothing where it stands"

    # Wrong settings: it ends with what RestartPreventExitStatus names.
    worker = start(courier, machine, argv, **environ | {"COURIER_RATE_LIMIT": "many"})
    assert worker.popen.wait(40) == 2


def test_a_worker_as_kubernetes_starts_it_and_its_probes(courier: Courier, machine: Path) -> None:
    [container] = DEPLOYMENTS["attribute-courier-worker"]["spec"]["template"]["spec"]["containers"]
    mount = next(
        each["mountPath"] for each in container["volumeMounts"] if each["name"] == "secrets"
    )
    values = {"redis-url": courier.server.url}
    environ = {"CHARTMOGUL_API_URL": courier.environ["CHARTMOGUL_API_URL"]}
    for each in container["env"]:
        if "value" in each:
            environ[each["name"]] = each["value"].replace(mount, str(machine / "run"))
        else:
            environ[each["name"]] = values[each["valueFrom"]["secretKeyRef"]["key"]]

    def probe(name: str) -> int:
        # The image's PATH finds the command.
        return subprocess.run(
            container[name]["exec"]["command"],
            executable=BIN / container[name]["exec"]["command"][0],
            env={"PATH": PATH, "TMPDIR": str(machine / "tmp")},
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    assert probe("startupProbe") == 1, "nothing runs yet"
    worker = start(courier, machine, [f"{BIN}/courier", *container["args"]], **environ)
    wait_until(lambda: probe("startupProbe") == 0 or not worker.running, what="it has started")
    assert worker.running, courier.log()
    assert probe("livenessProbe") == 0
    assert delivers(courier)


@pytest.mark.parametrize("name", ["flower", "metrics"])
def test_what_people_and_prometheus_look_at(courier: Courier, machine: Path, name: str) -> None:
    """With the unit's command, and what the manifest's probes ask for; for once on another port."""
    [unit] = [unit for unit in UNITS if name in unit.name]
    command, *arguments = exec_start(unit)
    environ = environment(unit, credentials=machine / "run", etc=machine / "etc")
    if name == "flower":
        environ["COURIER_FLOWER_BASIC_AUTH"] = "ada:secret"
    port = free_port()
    argv = [command.replace(INSTALLED, f"{BIN}/"), *arguments, "--port", str(port)]
    process = start(courier, machine, argv, **environ)
    deployment: Any = DEPLOYMENTS[f"attribute-courier-{name}"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container[probe]["httpGet"]["path"]
        wait_until(
            lambda path=path: answer(port, path) == 200,  # type: ignore[misc]
            timeout_s=40,
            what=f"{name} answers its {probe}",
        )
    process.send(signal.SIGTERM)
    assert (
        process.popen.wait(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
        == 0
    )

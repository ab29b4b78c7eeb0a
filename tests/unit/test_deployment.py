"""deploy/systemd and deploy/kubernetes: what can be held to without systemd and without a cluster.

`tests/integration/test_deployment.py` runs their commands.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from attribute_courier.cli import main

from ..deployment import (
    INSTALLED,
    MANIFESTS,
    PAGE,
    ROOT,
    STOP_GRACE_S,
    UNITS,
    directives,
    documents,
    exec_start,
    sessions,
)
from ..programs import NODE_MODULES, missing, node_with, program
from ..prometheus import promtool
from .test_compose import DOCKERFILE, SERVICES
from .test_docs import documented
from .test_monitoring import EXPORTED, metrics_in

OBJECTS = list(documents(*(each for each in MANIFESTS if each.name != "kustomization.yaml")))
DEPLOYMENTS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "Deployment"}
WORKER = "attribute-courier-worker"
EXPOSURE = 1.2
"""What docs/deployment.md says that systemd rates the units at."""


def known_variables() -> set[str]:
    return set(documented()) | {"CHARTMOGUL_API_KEY_EU_FILE"}  # of an account `eu`


def assert_courier_has(command: list[str]) -> None:
    """`command` is what stands behind `courier`."""
    name, *arguments = command
    found = main.get_command(click.Context(main), name)
    assert found is not None, name
    found.make_context(name, arguments, parent=click.Context(main))


# --- systemd -----------------------------------------------------------------------------------


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = program("systemd-analyze", thing="SYSTEMD", install="apt-get install systemd")
    return subprocess.run(
        [tool, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """Copies of the units, whose commands are where they say, in instances as on a machine."""
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name.replace("@.", "@1.")
        text = unit.read_text("utf-8")
        assert text.count(INSTALLED) == 1
        copy.write_text(text.replace(INSTALLED, f"{Path(sys.executable).parent}/"), "utf-8")
        copies.append(str(copy))
    return copies


def test_systemd_takes_the_units(installed: list[str]) -> None:
    checked = systemd_analyze("verify", *installed)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_unit_can_do_little_harm(installed: list[str]) -> None:
    assert f"rates them at {EXPOSURE} of 10" in PAGE
    for unit in installed:
        threshold = f"--threshold={EXPOSURE * 10:.0f}"
        checked = systemd_analyze("security", "--offline=yes", threshold, "--no-pager", unit)
        assert checked.returncode == 0, checked.stdout[-300:] + checked.stderr


def test_all_units_are_hardened_alike() -> None:
    def hardening(unit: Path) -> str:
        text = unit.read_text("utf-8")
        return text[text.index("DynamicUser=") : text.index("[Install]")]

    assert len({hardening(unit) for unit in UNITS}) == 1
    assert len(UNITS) == 3


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_command_that_courier_has_and_sets_what_it_reads(unit: Path) -> None:
    path, *command = exec_start(unit)
    assert path == f"{INSTALLED}courier"
    assert_courier_has(command)
    assignments = directives(unit).get("Environment", ())
    assert {each.partition("=")[0] for each in assignments} <= known_variables()


def test_the_example_of_settings_has_settings_and_no_secret() -> None:
    text = (ROOT / "deploy/systemd/environment.example").read_text("utf-8")
    assert set(re.findall(r"^#?\s*([A-Z_]+)=", text, re.M)) <= known_variables()
    assert "KEY" not in text


def test_a_unit_starts_again_unless_its_settings_are_wrong_and_has_the_time_to_stop() -> None:
    for unit in UNITS:
        found = directives(unit)
        assert found["Restart"] == ["on-failure"]
        assert found["RestartPreventExitStatus"] == ["2"], "docs/operating.md, exit codes"
        assert found["StartLimitIntervalSec"] == ["0"]
        assert "WatchdogSec" not in found, "a worker does not talk to systemd"
    [worker] = [unit for unit in UNITS if "worker" in unit.name]
    assert int(directives(worker)["TimeoutStopSec"][0]) >= STOP_GRACE_S
    assert directives(worker)["KillMode"] == ["mixed"], "prefork's children end by themselves"


def test_only_the_worker_is_given_the_api_key() -> None:
    for unit in UNITS:
        has_key = "chartmogul-api-key" in unit.read_text("utf-8")
        assert has_key == ("worker" in unit.name)
    for name, deployment in DEPLOYMENTS.items():
        assert ("chartmogul-api-key" in json.dumps(deployment)) == (name == WORKER)


# --- Kubernetes --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_manifests_keep_to_the_schemas_of_kubernetes(version: str) -> None:
    """Strictly: a field that Kubernetes does not know is an error."""
    folder = ROOT / "build" / "kubernetes"
    if not folder.is_dir():
        install = "pip install --target build/kubernetes kubernetes-validate==1.37.0"
        missing(f"the schemas are not there: {install}", "KUBERNETES")
    code = (
        "import json, sys, kubernetes_validate\n"
        "for each in json.load(sys.stdin):\n"
        "    kubernetes_validate.validate(each, sys.argv[1], strict=True)\n"
        "    print(each['kind'])\n"
    )
    core = [each for each in OBJECTS if each["kind"] not in OF_OTHERS]
    checked = subprocess.run(
        [sys.executable, "-c", code, version],
        env={"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"},
        input=json.dumps(core),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr[-1000:]
    assert len(checked.stdout.split()) == len(core) >= 8


OF_OTHERS = {
    "ScaledObject": "@kubernetes-models/keda@2.0.0",
    "ServiceMonitor": "@kubernetes-models/prometheus-operator@6.0.0",
}
"""Kinds that others than Kubernetes define, and the package for Node that has their schema."""
FIELDS_OF_OTHERS = {
    "ScaledObject": {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "cooldownPeriod", "triggers"),
    },
    "ServiceMonitor": {"selector", "endpoints"},
}
"""Those schemas let unknown fields pass."""


@pytest.mark.parametrize("kind", OF_OTHERS)
def test_the_manifests_for_operators_of_others_keep_to_their_schemas(kind: str) -> None:
    [found] = [each for each in OBJECTS if each["kind"] == kind]
    assert set(found["spec"]) == FIELDS_OF_OTHERS[kind]
    package = OF_OTHERS[kind]
    node = node_with(package)
    path = f"{package.rpartition('@')[0]}/{found['apiVersion']}/{kind}"
    code = (
        f"import {{ {kind} }} from {path!r}\n"
        f"const found = new {kind}({json.dumps(found)})\n"
        "found.validate()\n"
        "found.spec = { none: 1 }\n"
        "try { found.validate() } catch { console.log('valid, and checked') }\n"
    )
    checked = subprocess.run(
        [node, "--input-type=module", "--eval", code],
        cwd=NODE_MODULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.stdout == "valid, and checked\n", checked.stderr


def rendered(folder: Path) -> list[dict[str, Any]]:
    kubectl = program("kubectl", thing="KUBECTL", install="https://kubernetes.io/docs/tasks/tools")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(YAML(typ="safe").load_all(done.stdout))


def test_the_kustomization_of_the_page_makes_what_it_says(tmp_path: Path) -> None:
    for path in MANIFESTS:
        copy = tmp_path / path.relative_to(ROOT / "deploy/kubernetes")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text("utf-8"), "utf-8")
    [text] = re.findall(r"^```yaml kustomization.yaml\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "kustomization.yaml").write_text(text.replace("# - options", "- options"), "utf-8")
    found = rendered(tmp_path)
    assert len(found) == len(OBJECTS) + 1
    assert {each["metadata"]["namespace"] for each in found} == {"attribute-courier"}
    [settings] = [each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"]
    assert settings.startswith("attribute-courier-"), "with a hash: new settings are rolled out"
    for each in found:
        if each["kind"] == "Deployment":
            [container] = each["spec"]["template"]["spec"]["containers"]
            assert container["image"] == "registry.example/attribute-courier:0.1.0"
            assert container["envFrom"][0]["configMapRef"]["name"] == settings


def containers() -> list[dict[str, Any]]:
    return [
        container
        for deployment in DEPLOYMENTS.values()
        for container in deployment["spec"]["template"]["spec"]["containers"]
    ]


def test_a_container_runs_what_courier_has_and_is_given_what_it_reads() -> None:
    for container in containers():
        assert "command" not in container, "the image's entry point is `courier`"
        assert_courier_has(container["args"])
        assert {each["name"] for each in container["env"]} <= known_variables()
        for probe in ("startupProbe", "livenessProbe"):
            if "exec" in container[probe]:
                courier, *command = container[probe]["exec"]["command"]
                assert courier == "courier"
                assert_courier_has(command)
            else:
                assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]


def test_no_secret_is_in_a_manifest() -> None:
    assert "Secret" not in {each["kind"] for each in OBJECTS}
    keys = {
        each["valueFrom"]["secretKeyRef"]["key"]
        for container in containers()
        for each in container["env"]
        if "valueFrom" in each
    } | {"chartmogul-api-key"}
    [created] = [each for each in sessions("kubernetes") if "create secret" in each]
    assert set(re.findall(r"--from-file=(\S+)", created)) == keys
    for container in containers():
        for each in container["env"]:
            assert "valueFrom" in each or each["value"].startswith("/run/secrets/")


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_can_do_little_harm(name: str) -> None:
    pod = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    user = pod["securityContext"]
    assert user["runAsNonRoot"] is True
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in DOCKERFILE
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == container["resources"].keys()
    assert container["resources"]["limits"].keys() == {"memory"}
    # `courier health` needs a directory that worker and probe share.
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["tmp"] == "/tmp"  # noqa: S108
    assert {each["name"] for each in pod["volumes"]} == mounts.keys()


def test_a_worker_has_the_time_to_stop_and_a_node_may_always_be_drained() -> None:
    worker = DEPLOYMENTS[WORKER]
    pod = worker["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= STOP_GRACE_S
    [budget] = [each for each in OBJECTS if each["kind"] == "PodDisruptionBudget"]
    assert "minAvailable" not in budget["spec"], "with one worker it would hold a node for ever"
    assert budget["spec"]["maxUnavailable"] < worker["spec"]["replicas"]
    assert "readinessProbe" not in pod["containers"][0]


def test_what_selects_pods_finds_them() -> None:
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in DEPLOYMENTS.values()]
    for each in OBJECTS:
        spec = each["spec"]
        chosen = {
            "Deployment": lambda s: s["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
            "Service": lambda s: s["selector"],
            "NetworkPolicy": lambda s: s["podSelector"]["matchLabels"],
        }.get(each["kind"])
        if chosen is not None:
            assert any(chosen(spec).items() <= pod.items() for pod in pods), each["metadata"]
    [monitor] = [each for each in OBJECTS if each["kind"] == "ServiceMonitor"]
    services = [each for each in OBJECTS if each["kind"] == "Service"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    [service] = [s for s in services if wanted <= s["metadata"].get("labels", {}).items()]
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    [scaled] = [each for each in OBJECTS if each["kind"] == "ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS


def test_scaling_asks_prometheus_for_metrics_that_there_are(tmp_path: Path) -> None:
    [scaled] = [each for each in OBJECTS if each["kind"] == "ScaledObject"]
    assert scaled["spec"]["minReplicaCount"] >= 1
    [trigger] = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert metrics_in(query)
    assert metrics_in(query) <= EXPORTED
    rules = tmp_path / "rules.yml"
    rule = {"groups": [{"name": "scaling", "rules": [{"record": "wanted", "expr": query}]}]}
    rules.write_text(json.dumps(rule))
    promtool("check", "rules", str(rules))


# --- the page ----------------------------------------------------------------------------------


def test_the_commands_of_the_page_name_what_exists() -> None:
    """Checked and not run: there is no systemd and no cluster. What can be run is, elsewhere."""
    units = {unit.name.removesuffix(".service") for unit in UNITS}
    ours = {
        f"{kind.lower()}/{each['metadata']['name']}" for each in OBJECTS for kind in [each["kind"]]
    }
    for text in sessions("systemd") + sessions("kubernetes"):
        words = shlex.split(text)
        match words:
            case ["systemctl", "daemon-reload"] | ["kubectl", "create", "namespace", _]:
                pass
            case ["systemctl", "enable", "--now", *names]:
                assert {re.sub("@.*", "@", name) for name in names} <= units
            case ["journalctl", "--unit", pattern, "--follow"]:
                assert all(unit.startswith(pattern.rstrip("*")) for unit in units)
            case ["systemd-run", "--pty", *_, command, "doctor"]:
                assert command == f"{INSTALLED}courier"
                assert set(re.findall(r"Environment=(\w+)=", text)) <= known_variables()
            case ["kubectl", "apply", "--kustomize", folder]:
                assert (ROOT / folder / "base/kustomization.yaml").is_file()
            case ["kubectl", "--namespace", _, "create", "secret", "generic", name, *_]:
                assert f'"name": "{name}"' in json.dumps(DEPLOYMENTS[WORKER])
            case ["kubectl", "--namespace", _, "rollout", "status", name]:
                assert name in ours
            case ["kubectl", "--namespace", _, "exec", name, "--", "courier", *command]:
                assert name in ours
                assert_courier_has(command)
            case ["kubectl", "--namespace", _, "port-forward", name, port]:
                assert name in ours
                assert port in SERVICES["flower"]["ports"][0]
            case ["python3", "-m", "venv", folder]:
                assert f"{folder}/bin/" == INSTALLED
            case [pip, "install", *arguments] if pip == f"{INSTALLED}pip":
                assert arguments[-1] in ("requirements-production.txt", ".")
            case ["install", *_]:
                pass  # tests/integration/test_deployment.py runs them
            case _:
                pytest.fail(f"nobody knows how to check it: {text}")


def test_the_page_names_every_file_that_there_is_to_deploy() -> None:
    for path in [*UNITS, *MANIFESTS]:
        assert path.name == "kustomization.yaml" or f"`{path.relative_to(ROOT)}`" in PAGE

"""docker-compose.yml, Dockerfile and their neighbours: what can be held to without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from attribute_courier.cli import main

from .test_docs import documented

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text("utf-8")
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(TEXT)["services"]
OURS = ["flower", "metrics", "sandbox", "worker"]
MONITORING = ["grafana", "metrics", "prometheus"]

WORKER_GRACE_S = 60
"""What docs/operating.md, "Stopping", asks for."""

NOT_PASSED_ON = {
    *("COURIER_ACCOUNTS", "COURIER_BROKER_URL_FILE", "COURIER_HOOK_SECRET_FILE"),
    # The Redis is this file's own, alone, on a network of its own.
    *("COURIER_REDIS_CA_FILE", "COURIER_REDIS_CERT_FILE", "COURIER_REDIS_KEY_FILE"),
    *("COURIER_SENTINEL_PASSWORD", "COURIER_SENTINEL_PASSWORD_FILE", "COURIER_WAIT_REPLICAS"),
}
"""Settings that take more than a line in .env: accounts need a secret each, a file a mount."""


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, f"write it in seconds: {duration}"
    return int(match[1])


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    check = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_redis_keeps_its_data_evicts_nothing_and_asks_for_a_password() -> None:
    redis = SERVICES["redis"]
    arguments = redis["command"][1:]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    # It refuses what it has no room for, before the engine kills it for more.
    assert options["--maxmemory"] == "1gb"
    assert redis["mem_limit"] == "2g"
    assert options["--requirepass"].startswith("${REDIS_PASSWORD:?")
    assert redis["volumes"] == ["redis-data:/data"]


def test_only_what_one_looks_at_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "flower": ["127.0.0.1:5555:5555"],
        "grafana": ["127.0.0.1:3000:3000"],
        "metrics": ["127.0.0.1:9464:9464"],
        "prometheus": ["127.0.0.1:9090:9090"],
    }
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]


def test_no_secret_is_written_in_the_compose_file_nor_has_a_default() -> None:
    # ${NAME:?…} fails when NAME is unset or empty; every other form could start without a secret.
    interpolations = re.findall(r"\$\{(\w+)(\W*)", TEXT)
    assert {name for name, _ in interpolations} == {
        "CHARTMOGUL_API_KEY_FILE",
        "COURIER_FLOWER_BASIC_AUTH",
        "REDIS_PASSWORD",
    }
    assert {operator for _, operator in interpolations} == {":?"}
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if value is None:  # taken from the shell or .env, if it is there
                continue
            if re.search(r"AUTH$|KEY|PASSWORD|SECRET|TOKEN", variable):
                assert value.startswith(("${", "/run/secrets/")), variable
            elif value and "://" in value:
                assert re.match(r"redis://:\$\{REDIS_PASSWORD:\?[^}]*\}@redis:6379/0$", value)
    assert not [
        line
        for line in (ROOT / ".env.example").read_text("utf-8").splitlines()
        if re.match(r"\w+=.", line)
    ], "an example's secret would become somebody's secret"


def test_it_passes_on_every_setting_and_nothing_else() -> None:
    """A setting that it left out would be ignored in silence when it stands in .env."""
    used = {name for service in OURS for name in SERVICES[service].get("environment", {})}
    keys = {name for name in documented() if name.startswith("CHARTMOGUL_API_KEY")}
    assert used == set(documented()) - keys - NOT_PASSED_ON | {"CHARTMOGUL_API_KEY_FILE"}


def test_only_the_worker_is_given_the_api_key() -> None:
    assert [name for name, service in SERVICES.items() if service.get("secrets")] == ["worker"]
    worker = SERVICES["worker"]
    assert worker["secrets"] == ["chartmogul_api_key"]
    assert worker["environment"]["CHARTMOGUL_API_KEY_FILE"] == "/run/secrets/chartmogul_api_key"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_by_itself_and_can_do_little_harm(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert name == "worker" or service["healthcheck"]["test"], "the worker has the image's check"


def test_an_image_of_others_is_named_by_version_and_perhaps_by_digest() -> None:
    for service in SERVICES.values():
        if not service["image"].startswith("attribute-courier"):
            version = r"[\w./-]+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?"
            assert re.fullmatch(version, service["image"])


def test_what_needs_redis_waits_until_it_answers() -> None:
    for name in ("flower", "metrics", "worker"):
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_the_stand_in_and_monitoring_run_only_when_asked_for() -> None:
    profiles = {name: each["profiles"] for name, each in SERVICES.items() if "profiles" in each}
    assert profiles == {"sandbox": ["sandbox"], **{name: ["monitoring"] for name in MONITORING}}
    assert SERVICES["worker"]["depends_on"]["sandbox"]["required"] is False


def test_a_worker_has_the_time_to_finish_what_it_has_in_flight() -> None:
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= WORKER_GRACE_S


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_that_courier_has(service: str) -> None:
    name, *arguments = SERVICES[service]["command"]
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    options = command.make_context(name, list(arguments), parent=context).params
    assert options.get("host") != "127.0.0.1", "nobody reaches a container's loopback"


def test_nobody_can_log_in_to_grafana_and_it_asks_nobody() -> None:
    """There is no password then, which an example could give away."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert not [name for name in environment if "PASSWORD" in name]


def test_what_monitoring_mounts_is_in_the_checkout_and_cannot_be_changed() -> None:
    for name in MONITORING:
        for volume in SERVICES[name].get("volumes", ()):
            source, target, *options = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert options == ["ro"], target


# --- the image ---------------------------------------------------------------------------------

DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text("utf-8"))
STAGES = {
    name: (image, text)
    for image, name, text in re.findall(
        r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL
    )
}
"""Name → what it starts from, and its text."""
BUILDERS = {"builder": "requirements-production.txt", "sandbox-builder": "requirements.txt"}
"""Stages that install, and the lock that each installs."""
FINAL = {"production": "builder", "sandbox": "sandbox-builder"}


def ignored_but(path: Path) -> list[str]:
    """What an ignore file that ignores everything lets through."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    assert lines[0] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_no_image_has_root_or_anything_to_build_with() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)
    assert len(user) == 1
    assert "0" not in user[0]
    assert f"USER {':'.join(user[0])}" in STAGES["base"][1]
    for name, builder in FINAL.items():
        image, text = STAGES[name]
        assert image == "base"
        assert re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE) == [
            f"--from={builder} /opt/courier /opt/courier"
        ]
        assert not re.search(r"^(RUN|USER|ENTRYPOINT)", text, flags=re.MULTILINE)
    assert "COPY" not in STAGES["base"][1]
    # The exec form: `courier` itself is the first process, and gets the signal to stop.
    assert '\nSTOPSIGNAL SIGTERM\nENTRYPOINT ["courier"]\n' in STAGES["base"][1]
    assert not re.search("pip install|apt-get", STAGES["base"][1])


@pytest.mark.parametrize(("builder", "lock"), BUILDERS.items())
def test_an_image_holds_only_what_its_lock_names(builder: str, lock: str) -> None:
    installs = re.findall(r"pip install (.*?)(?: &&|$)", STAGES[builder][1], flags=re.MULTILINE)
    assert installs == [
        f"--require-hashes --requirement {lock}",
        "--no-deps --no-build-isolation .",
    ]
    assert "pip uninstall --yes setuptools pip" in STAGES[builder][1]


def test_the_image_for_production_has_no_stand_in_and_is_what_no_target_means() -> None:
    assert list(STAGES)[-1] == "production"
    stand_in = "attribute_courier/sandbox/server.py"
    assert f"rm /opt/courier/lib/python3*/site-packages/{stand_in}" in STAGES["builder"][1]
    assert (ROOT / stand_in.removeprefix("attribute_courier/")).is_file()
    for name in ("flower", "worker"):
        assert (SERVICES[name]["image"], SERVICES[name]["build"]) == ("attribute-courier", ".")
    assert SERVICES["sandbox"]["image"] != "attribute-courier"
    assert SERVICES["sandbox"]["build"]["target"] == "sandbox"


def test_all_stages_have_the_same_python() -> None:
    images = {image for image, _ in STAGES.values()} - {"base"}
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.\d+-slim", images.pop())


def test_what_the_image_is_built_from_is_there_and_nothing_else_is_sent() -> None:
    allowed = ignored_but(ROOT / ".dockerignore")
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    files = ["LICENSE", "README.md", "pyproject.toml", *BUILDERS.values()]
    assert sorted(allowed) == sorted([*rooms, *files])
    for name in files:
        assert (ROOT / name).is_file()


def test_the_health_check_asks_the_worker_and_neither_redis_nor_chartmogul() -> None:
    """In the quick form (attribute_courier/__main__.py), and where it may write its file: /tmp."""
    [command] = re.findall(
        r"^HEALTHCHECK .* CMD (.*)$", STAGES["production"][1], flags=re.MULTILINE
    )
    assert json.loads(command) == ["courier", "health"]
    assert '\nENTRYPOINT ["courier"]\n' in STAGES["base"][1]
    assert '\nCMD ["worker"]' in STAGES["production"][1]
    assert SERVICES["worker"]["tmpfs"] == ["/tmp"]  # noqa: S108
    assert "healthcheck" not in SERVICES["worker"]

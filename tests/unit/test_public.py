"""What is public, and what importing it costs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

PUBLIC = {
    "cli": ["main"],
    "config": [
        "CourierCelery",
        "Secret",
        "Settings",
        "SettingsError",
        "load_settings",
        "make_celery",
    ],
    "jobs": [
        "Attribute",
        "AttributeJob",
        "AttributeType",
        "CourierError",
        "Customer",
        "InvalidJob",
        "NotDelivered",
        "NotEnqueued",
        "NotReachable",
        "Outcome",
        "Outcomes",
    ],
    "producers": [
        "Attribute",
        "AttributeType",
        "Batch",
        "Bulk",
        "CourierError",
        "Customer",
        "FieldError",
        "InvalidJob",
        "Item",
        "NotDelivered",
        "NotEnqueued",
        "NotReachable",
        "Outcome",
        "Producer",
        "Receipt",
        "Rejected",
        "add_attributes",
        "add_attributes_async",
        "add_many",
        "default_producer",
    ],
    "sandbox": [
        "DEFAULT_API_KEY",
        "EmbeddedRedis",
        "EmbeddedRedisError",
        "Fault",
        "LeashedProcess",
        "SandboxConfig",
        "SandboxConfigError",
        "SandboxError",
        "SandboxProcess",
        "SandboxProcessError",
        "serve",
    ],
    "worker": ["app"],
}


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize("room", PUBLIC)
def test_what_a_room_exports_is_pinned(room: str) -> None:
    module = importlib.import_module(f"attribute_courier.{room}")
    assert sorted(module.__all__) == PUBLIC[room]
    assert all(hasattr(module, name) for name in PUBLIC[room])


@pytest.mark.parametrize("room", PUBLIC)
def test_a_room_imports_alone(room: str) -> None:
    assert f"attribute_courier.{room}" in imported_by(f"import attribute_courier.{room}")


def test_application_code_imports_little_and_nothing_of_the_worker() -> None:
    """What an application that only asks for attributes has to load."""
    modules = imported_by("import attribute_courier.producers")
    rooms = {name.split(".")[1] for name in modules if name.startswith("attribute_courier.")}
    assert rooms == {"config", "jobs", "producers"}
    packages = {name.partition(".")[0] for name in modules} & set(packages_distributions())
    # Celery and what it needs, and what this package depends on, except for the worker's and the
    # command line's parts: requests, rich, tornado. (Celery imports click.)
    assert packages - {"attribute_courier", "_distutils_hack"} <= {
        *("celery", "kombu", "amqp", "billiard", "vine", "click", "dateutil", "six", "tzlocal"),
        *("redis", "marshmallow", "environs", "dotenv"),
    }


def test_the_public_names_of_producers_are_those_of_jobs() -> None:
    """So that `except NotDelivered` means the same wherever it was imported from."""
    jobs = importlib.import_module("attribute_courier.jobs")
    producers = importlib.import_module("attribute_courier.producers")
    for name in set(PUBLIC["jobs"]) & set(PUBLIC["producers"]):
        assert getattr(jobs, name) is getattr(producers, name)

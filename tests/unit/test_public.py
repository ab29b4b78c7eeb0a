"""What is public, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from typing import Any

import pytest

import attribute_courier as package
from attribute_courier import Producer, config, producers

OFFERED = [
    "Attribute",
    "AttributeType",
    "Attributes",
    "Batch",
    "Bulk",
    "Cancellation",
    "CourierError",
    "Customer",
    "FieldError",
    "Forgotten",
    "IdempotencyConflict",
    "InvalidJob",
    "Item",
    "Lane",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
    "Producer",
    "Receipt",
    "Rejected",
    "Value",
    "add_attributes",
    "add_attributes_async",
    "add_many",
    "cancel",
    "default_producer",
    "forget",
]
"""What application code imports."""

PUBLIC = {
    "cli": ["main"],
    "config": [
        "NotConfigured",
        "Secret",
        "Settings",
        "SettingsError",
        "configure",
        "load_settings",
    ],
    "jobs": [
        "Attribute",
        "AttributeJob",
        "AttributeType",
        "CourierError",
        "Customer",
        "IdempotencyConflict",
        "InvalidJob",
        "NotDelivered",
        "NotEnqueued",
        "NotReachable",
        "Outcome",
    ],
    "producers": OFFERED,
    "sandbox": [
        "DEFAULT_API_KEY",
        "EmbeddedRedis",
        "EmbeddedRedisError",
        "Fault",
        "InProcessSandbox",
        "LeashedProcess",
        "SandboxConfig",
        "SandboxConfigError",
        "SandboxError",
        "SandboxProcess",
        "SandboxProcessError",
        "serve",
    ],
    "worker": ["app", "install"],
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


def test_the_package_offers_what_producers_do_and_no_more() -> None:
    of_config = ["NotConfigured", "Settings", "SettingsError", "configure"]
    assert sorted(package.__all__) == sorted([*OFFERED, *of_config, "__version__"])
    assert dir(package) == package.__all__
    for name in OFFERED:
        assert getattr(package, name) is getattr(producers, name)
    for name in of_config:
        assert getattr(package, name) is getattr(config, name)
    assert package.__version__ == version("attribute-courier")
    assert issubclass(package.SettingsError, Exception)
    with pytest.raises(AttributeError, match="no attribute 'Colour'"):
        _ = package.Colour
    with pytest.raises(ImportError):
        from attribute_courier import Colour  # noqa: F401


def test_importing_the_package_alone_imports_no_room() -> None:
    """Importing any room imports the package first, the worker's and the sandbox's, too."""
    modules = imported_by("import attribute_courier")
    assert {name for name in modules if name.startswith("attribute_courier")} == {
        "attribute_courier"
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import attribute_courier.producers",
        "from attribute_courier import add_attributes, add_many, Receipt, Outcome, CourierError",
        "from attribute_courier import *",
    ],
)
def test_application_code_imports_little_and_nothing_of_the_worker(statement: str) -> None:
    """What an application that only hands jobs over has to load."""
    # redis-py imports OpenTelemetry where it is installed, as it is here for other tests.
    modules = imported_by(f"import sys; sys.modules['opentelemetry'] = None; {statement}")
    rooms = {name.split(".")[1] for name in modules if name.startswith("attribute_courier.")}
    assert rooms == {"config", "jobs", "producers", "state"}
    packages = {name.partition(".")[0] for name in modules} & set(packages_distributions())
    ours = {"attribute_courier", "_distutils_hack", "opentelemetry"}
    assert packages - ours <= {"redis", "hiredis", "cryptography"}, "redis-py's, where it is there"


@pytest.mark.parametrize(
    ("function", "method"),
    [
        (producers.add_attributes, Producer.add_attributes),
        (producers.add_many, Producer.add_many),
        (producers.add_attributes_async, Producer.add_attributes),
    ],
)
def test_a_function_has_the_signature_and_the_documentation_of_its_method(
    function: Any, method: Any
) -> None:
    """They stand once in the code."""
    whole = inspect.signature(method)
    parameters = list(whole.parameters.values())
    assert parameters[0].name == "self"
    assert inspect.signature(function) == whole.replace(parameters=parameters[1:])
    assert method.__doc__ in function.__doc__
    assert getattr(producers, function.__name__) is function
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
    shown = pydoc.plain(pydoc.render_doc(function))
    assert f"{function.__name__}(" in shown
    assert "account: 'str | None' = None" in shown
    assert "COURIER_ENQUEUE_TIMEOUT" in shown


def test_the_twin_for_coroutines_is_known_as_one() -> None:
    assert inspect.iscoroutinefunction(producers.add_attributes_async)


def test_the_public_names_of_producers_are_those_of_jobs() -> None:
    """So that `except NotDelivered` means the same wherever it was imported from."""
    jobs = importlib.import_module("attribute_courier.jobs")
    producers = importlib.import_module("attribute_courier.producers")
    for name in set(PUBLIC["jobs"]) & set(PUBLIC["producers"]):
        assert getattr(jobs, name) is getattr(producers, name)

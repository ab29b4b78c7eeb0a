"""Building a job of what an application hands over: plain functions collect every fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from . import rules
from .attributes import (
    MAX_ATTRIBUTES,
    Attribute,
    attribute_key,
    attribute_type,
    canonical,
    check_count,
    infer,
    repeated_keys,
    text,
)
from .errors import FieldError, InvalidJob, shown_field
from .ids import new_job_id
from .job import AttributeJob
from .plain import elements, entries, kind

MAX_AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie in the future."""

_T = TypeVar("_T")
_FIELDS = frozenset({"type", "key", "value", "source"})


def build_job(
    *,
    email: object,
    attributes: object,
    source: object = None,
    occurred_at: object = None,
    idempotency_key: object = None,
    lane: object = "live",
    only_changed: object = False,
    job_id: object = None,
    now: datetime | None = None,
) -> AttributeJob:
    """A job of the arguments of `add_attributes`, whatever they are.

    Args:
        job_id: a new one unless given.
        now: by which `occurred_at` is held to be in the future; this machine's time unless given.

    Raises:
        InvalidJob: something is not accepted; `errors` lists everything. No other exception is
            raised, whatever the arguments are.
    """
    faults = _Faults()
    own_source = faults.optional("source", text, source)
    job = AttributeJob(
        job_id=new_job_id() if job_id is None else faults.judge("job_id", rules.job_id, job_id),
        email=faults.judge("email", rules.email, email),
        attributes=_attributes(faults, attributes, own_source),
        occurred_at=faults.optional("occurred_at", rules.occurred_at, occurred_at),
        lane=faults.judge("lane", rules.lane, lane),
        only_changed=faults.judge("only_changed", rules.flag, only_changed),
        idempotency_key=faults.optional("idempotency_key", text, idempotency_key),
    )
    if job.occurred_at is not None and job.occurred_at > (now or datetime.now(UTC)) + MAX_AHEAD:
        faults.add("occurred_at", "lies more than 5 minutes in the future")
    if faults.found:
        raise InvalidJob(faults.found)
    return job


class _Faults:
    """What is wrong, as it is found."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def add(self, path: str, message: str, key: str | None = None) -> None:
        self.found.append(FieldError(path=path, message=message, key=key))

    def judge(
        self, path: str, rule: Callable[[object], _T], value: object, key: str | None = None
    ) -> Any:
        """What the rule makes of the value; None if it objects, which makes no job in the end."""
        try:
            return rule(value)
        except InvalidJob as invalid:
            self.add(path, invalid.errors[0].message, key)
            return None

    def optional(
        self, path: str, rule: Callable[[object], _T], value: object, key: str | None = None
    ) -> Any:
        return None if value is None else self.judge(path, rule, value, key)


def named_fields(
    given: object, known: frozenset[str], what: str
) -> tuple[dict[str, object], list[FieldError]]:
    """The fields of a caller's mapping that have a known name, and an error for each other one.

    Args:
        what: for the errors, what has these fields: "an attribute".

    Raises:
        InvalidJob: reading it raised an exception.
    """
    fields: dict[str, object] = {}
    errors: list[FieldError] = []
    # One that has many more is wrong, whatever they are.
    for name, content in entries(given, most=2 * len(known)):
        exact = str.__str__(name) if issubclass(type(name), str) else None
        if exact in known:
            fields[exact] = content
        else:
            message = f"no such field; {what} has {', '.join(sorted(known))}"
            errors.append(FieldError(path=shown_field(exact), message=message))
    return fields, errors


def _attributes(faults: _Faults, given: object, source: str | None) -> tuple[Attribute, ...]:
    """A job's attributes; those that are wrong are only good for being counted and compared."""
    # One more than are accepted is enough to see that there are too many, however many there are.
    most = MAX_ATTRIBUTES + 1
    build: Callable[[_Faults, str, Any, str | None], Attribute] = _from_list
    found: list[Any]
    try:
        if issubclass(type(given), Mapping):
            build, found = _from_pair, entries(given, most=most)
        elif issubclass(type(given), list | tuple):
            found = elements(given, most=most)
        else:
            message = "must be a mapping of key to value or a list of attributes, not "
            raise InvalidJob.of("value", message + kind(given))
        check_count(len(found))
    except InvalidJob as invalid:
        faults.add("attributes", invalid.errors[0].message)
        return ()
    built = [build(faults, f"attributes[{at}]", each, source) for at, each in enumerate(found)]
    for at, message in repeated_keys([each.key for each in built]).items():
        faults.add(f"attributes[{at}].key", message, built[at].key)
    return tuple(built)


def _from_pair(
    faults: _Faults, path: str, pair: tuple[object, object], source: str | None
) -> Attribute:
    """An attribute of a mapping of key to value."""
    key, value = pair
    if issubclass(type(value), Attribute):
        return _typed(faults, path, _fields_of(value) | {"key": key}, source)
    valid_key = faults.judge(f"{path}.key", attribute_key, key)
    type_, scalar = faults.judge(f"{path}.value", infer, value, valid_key) or (None, None)
    return _draft(type_, valid_key, scalar, source)


def _from_list(faults: _Faults, path: str, given: object, source: str | None) -> Attribute:
    """An attribute of a list: an `Attribute`, or one of the dicts of ChartMogul's reference."""
    if issubclass(type(given), Attribute):
        return _typed(faults, path, _fields_of(given), source)
    if not issubclass(type(given), Mapping):
        faults.add(path, f"must be a mapping with type, key and value, not {kind(given)}")
        return _draft()
    try:
        fields, errors = named_fields(given, _FIELDS, "an attribute")
    except InvalidJob as invalid:
        faults.add(path, invalid.errors[0].message)
        return _draft()
    for error in errors:
        faults.add(f"{path}.{error.path}", error.message)
    return _typed(faults, path, fields, source)


def _typed(
    faults: _Faults, path: str, fields: Mapping[str, object], source: str | None
) -> Attribute:
    """An attribute of fields that name its type."""
    for name in ("type", "key", "value"):
        if name not in fields:
            faults.add(f"{path}.{name}", "is required")
    key = type_ = value = None
    if "key" in fields:
        key = faults.judge(f"{path}.key", attribute_key, fields["key"])
    if "type" in fields:
        type_ = faults.judge(f"{path}.type", attribute_type, fields["type"], key)
    if type_ is not None and "value" in fields:
        rule = partial(canonical, type_)
        value = faults.judge(f"{path}.value", rule, fields["value"], key)
    own_source = faults.optional(f"{path}.source", text, fields.get("source"), key)
    return _draft(type_, key, value, own_source or source)


def _draft(
    type_: Any = None, key: Any = None, value: Any = None, source: str | None = None
) -> Attribute:
    """An attribute, or a place holder for one that is wrong, of which no job is made."""
    return Attribute(type=type_, key=key, value=value, source=source)


def _fields_of(given: Any) -> dict[str, object]:
    fields = {}
    for name in _FIELDS:
        with suppress(AttributeError):  # of one that was made without its fields
            # By the class's own descriptor, which a subclass cannot change.
            fields[name] = getattr(Attribute, name).__get__(given)
    return fields

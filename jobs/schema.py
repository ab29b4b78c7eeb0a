"""The wire document of a job: its marshmallow schema, and reading it.

`docs/wire-format.md` describes the same for those who publish jobs from another language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates_schema

from . import rules
from .attributes import (
    Attribute,
    attribute_key,
    attribute_type,
    canonical,
    check_count,
    repeated_keys,
    text,
)
from .errors import FieldError, InvalidJob, UnknownWireVersion, shown_field
from .job import AttributeJob
from .plain import kind
from .strict_json import StrictJSONError, parse_json
from .wire import MAX_NUMBER, WIRE_VERSION, check_size, is_rounded_elsewhere
from .wire import MAX_WIRE_BYTES as MAX_WIRE_BYTES
from .wire import dump_wire as dump_wire


def load_wire(job_id: object, wire: str | bytes) -> AttributeJob:
    """A job from its id and its wire text, UTF-8 where it is bytes.

    Whether `occurred_at` lies in the future is not judged: that takes Redis's clock.

    Raises:
        UnknownWireVersion: the document's `v` is later than this release reads.
        InvalidJob: it does not make a job; all that is wrong is listed.
    """
    return load_job(job_id, _parsed(wire))


def load_job(job_id: object, document: object) -> AttributeJob:
    """A job from its id and its wire document, already parsed.

    Raises:
        UnknownWireVersion, InvalidJob: as `load_wire` does.
    """
    _leave_later_versions(document)
    errors: list[FieldError] = []
    try:
        rules.job_id(job_id)
    except InvalidJob as invalid:
        errors.append(FieldError(path="job_id", message=invalid.errors[0].message))
    try:
        loaded = _JOB.load(document)  # type: ignore[arg-type]  # whatever it is, it is judged
    except ValidationError as invalid:
        errors += _flattened(invalid.messages, document)
    if errors:
        raise InvalidJob(errors)
    return AttributeJob(
        job_id=str(job_id),
        email=loaded["email"],
        attributes=tuple(loaded["attributes"]),
        occurred_at=loaded["occurred_at"],
        lane=loaded["lane"] or "live",
        only_changed=loaded["only_changed"] or False,
        idempotency_key=loaded["idempotency_key"],
        traceparent=loaded["traceparent"],
    )


def email_of_wire(wire: str | bytes) -> str | None:
    """The email of wire text that may make no job; None if there is none to be found in it."""
    try:
        document = _parsed(wire)
        return rules.email(document.get("email")) if isinstance(document, Mapping) else None
    except InvalidJob:
        return None


# marshmallow's fields are generic since 4.0 only, hence the bare names.
class Ruled(fields.Field):  # type: ignore[type-arg]
    """A field whose rule is a function that returns the value as kept, or raises InvalidJob."""

    def __init__(self, rule: Callable[[Any], object], **options: Any) -> None:
        super().__init__(**options)
        self._rule = rule

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> object:
        try:
            return self._rule(value)
        except InvalidJob as invalid:
            raise ValidationError(invalid.errors[0].message) from None


class ValueField(fields.Field):  # type: ignore[type-arg]
    """An attribute's value, by the rule of the type that stands beside it."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any
    ) -> Any:
        try:
            type_ = attribute_type((data or {}).get("type"))
        except InvalidJob:
            return value  # the type's own error is reported
        if is_rounded_elsewhere(value):
            raise ValidationError(
                f"a whole number beyond {MAX_NUMBER} is written as text: as a number, the language "
                "of its publisher may have rounded it already"
            )
        try:
            return canonical(type_, value)
        except InvalidJob as invalid:
            raise ValidationError(invalid.errors[0].message) from None


class AttributeList(fields.List):  # type: ignore[type-arg]
    """A list that is counted before its items are validated: there may be very many."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError(f"must be a list of attributes, not {kind(value)}")
        try:
            check_count(len(value))
        except InvalidJob as invalid:
            raise ValidationError(invalid.errors[0].message) from None
        return super()._deserialize(value, attr, data, **options)


class AttributeSchema(Schema):
    """One attribute of a job."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012  # marshmallow's own way to declare them
        "type": "must be an object with type, key and value",
        "unknown": "no such field; an attribute has type, key, value and source",
    }

    type = Ruled(attribute_type, required=True)
    key = Ruled(attribute_key, required=True)
    value = ValueField(required=True)
    source = Ruled(text, load_default=None)

    @post_load
    def _make(self, loaded: dict[str, Any], **_: Any) -> Attribute:
        return Attribute(**loaded)


class JobSchema(Schema):
    """A job's document, version 1."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012
        "type": "a job must be a JSON object",
        "unknown": "no such field; "
        "a job has v, email, attributes, occurred_at, lane, only_changed, idempotency_key and "
        "traceparent",
    }

    v = Ruled(lambda value: _wire_version(value), required=True)
    email = Ruled(rules.email, required=True)
    attributes = AttributeList(fields.Nested(AttributeSchema), required=True)
    occurred_at = Ruled(rules.occurred_at, load_default=None)
    lane = Ruled(rules.lane, load_default=None)
    only_changed = Ruled(rules.flag, load_default=None)
    idempotency_key = Ruled(text, load_default=None)
    traceparent = Ruled(rules.traceparent, load_default=None)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _each_key_once(self, _: Any, document: Any, **__: Any) -> None:
        """Looks into the document, so that this is reported together with all else."""
        given = document.get("attributes") if isinstance(document, Mapping) else None
        if not isinstance(given, list):
            return
        keys = [each.get("key") if isinstance(each, Mapping) else None for each in given]
        if repeated := repeated_keys(keys):
            messages = {at: {"key": [message]} for at, message in repeated.items()}
            raise ValidationError({"attributes": messages})


def _wire_version(value: object) -> int:
    if type(value) is not int or value != WIRE_VERSION:
        raise InvalidJob.of("value", f"must be the number {WIRE_VERSION}; this is {kind(value)}")
    return value


def _leave_later_versions(document: object) -> None:
    """Before any other rule: those of a later version are not known here."""
    version = document.get("v") if isinstance(document, Mapping) else None
    if type(version) is int and version > WIRE_VERSION:
        message = f"a later version than this release reads, which is {WIRE_VERSION}"
        raise UnknownWireVersion.of("v", message)


def _flattened(
    messages: Any, document: Any, path: str = "", key: Any = None
) -> Iterator[FieldError]:
    """marshmallow's tree of messages, as a list with paths and the attributes' keys."""
    if not isinstance(messages, dict):
        for message in messages:
            yield FieldError(path=path, message=message, key=key)
        return
    for name, below in messages.items():
        if name == "_schema":
            yield from _flattened(below, document, path, key)
        elif type(name) is int:
            found = _key_at(document, name)
            yield from _flattened(below, document, f"{path}[{name}]", found)
        else:
            step = f"{path}.{shown_field(name)}" if path else shown_field(name)
            yield from _flattened(below, document, step, key)


def _key_at(document: Any, position: int) -> str | None:
    try:
        return attribute_key(document["attributes"][position]["key"])
    except (InvalidJob, LookupError, TypeError):
        return None


def _parsed(wire: str | bytes) -> object:
    check_size(wire)
    if not wire.strip():
        text = "there is no document, or an empty one: write it and its arrival in one step"
        raise InvalidJob.of("", text)
    try:
        return parse_json(wire)
    except StrictJSONError as error:
        raise InvalidJob.of("", f"the document is {error}") from None


_JOB = JobSchema()

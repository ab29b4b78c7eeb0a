"""What makes a job: the marshmallow schema of its wire document, and reading and writing that.

`docs/wire-format.md` describes the same for those who publish jobs from another language.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from .attributes import (
    MAX_ATTRIBUTES,
    Attribute,
    AttributeType,
    attribute_key,
    attribute_type,
    attributes_from,
    canonical,
    in_utc,
    instant,
    key_note,
    kind,
    right_attributes,
    right_documents,
    text,
)
from .errors import FieldError, InvalidJob, UnknownWireVersion
from .ids import is_job_id
from .job import END_OF_TIME, EPOCH, AttributeJob, Lane, normalized_email

WIRE_VERSION = 1
MAX_WIRE_BYTES = 64 * 1024
MAX_EMAIL_CHARACTERS = 254
"""RFC 5321, 4.5.3.1.3: the longest address that mail can be sent to."""

_T = TypeVar("_T")


def make_job(
    job_id: object,
    *,
    email: object,
    attributes: object,
    occurred_at: object,
    source: str | None = None,
    lane: object = "live",
    only_changed: object = False,
    idempotency_key: object = None,
) -> AttributeJob:
    """A job from what `add_attributes` accepts: the one that `load_job` makes of its document.

    What is right costs a quarter of that, since each rule is called once and without the schema.
    Where a rule objects, the schema decides and names all that is wrong.

    Raises:
        InvalidJob: it does not make a job.
    """
    if is_job_id(job_id):
        with suppress(InvalidJob):
            return AttributeJob(
                job_id=str(job_id),
                email=_email(email),
                attributes=right_attributes(attributes, source),
                occurred_at=_occurred_at(occurred_at),
                lane=_lane(lane),
                only_changed=_flag(only_changed),
                idempotency_key=None if idempotency_key is None else text(idempotency_key),
            )
    untyped: tuple[FieldError, ...] = ()
    try:
        listed = attributes_from(attributes, source)
    except InvalidJob as invalid:
        # What stands in for them is right, so that the rest is judged, too.
        untyped, listed = invalid.errors, [{"type": "Boolean", "key": "stand_in", "value": True}]
    document = {
        "v": WIRE_VERSION,
        "email": email,
        "attributes": listed,
        "occurred_at": occurred_at,
        "lane": lane,
        "only_changed": only_changed,
        "idempotency_key": idempotency_key,
    }
    try:
        job = load_job(job_id, document)
    except InvalidJob as invalid:
        raise InvalidJob([*untyped, *invalid.errors]) from None
    if untyped:
        raise InvalidJob(untyped)
    return job


def load_job(job_id: object, document: object) -> AttributeJob:
    """A job from its id and its wire document, already parsed.

    Python's own values are read too: a datetime for a time, a Decimal for a number.

    Raises:
        UnknownWireVersion: the document's `v` is later than this release reads.
        InvalidJob: it does not make a job; all that is wrong is listed.
    """
    _leave_later_versions(document)
    errors: list[FieldError] = []
    if not is_job_id(job_id):
        message = f"must be a UUID in lowercase with dashes; this is {kind(job_id)}"
        errors.append(FieldError(path="job_id", message=message))
    try:
        loaded = _JOB.load(document)  # type: ignore[arg-type]  # whatever it is, it is judged
    except ValidationError as invalid:
        errors.extend(_flattened(invalid.messages))
    if errors:
        raise InvalidJob(errors)
    return AttributeJob(
        job_id=str(job_id),
        email=loaded["email"],
        attributes=loaded["attributes"],
        occurred_at=loaded["occurred_at"],
        lane=loaded["lane"] or "live",
        only_changed=loaded["only_changed"] or False,
        idempotency_key=loaded["idempotency_key"],
    )


def load_wire(job_id: object, wire: str | bytes) -> AttributeJob:
    """A job from its id and its wire text, UTF-8 where it is bytes.

    Raises:
        UnknownWireVersion, InvalidJob: as `load_job` does, and for text that is not JSON.
    """
    return load_job(job_id, _parsed(wire))


def dump_wire(job: AttributeJob) -> str:
    """A job as wire text, which `load_wire` reads back as an equal job.

    Raises:
        InvalidJob: the text is longer than 64 KiB.
    """
    document: dict[str, object] = {
        "v": WIRE_VERSION,
        "email": job.email,
        "attributes": [attribute.as_dict() for attribute in job.attributes],
        "occurred_at": job.occurred_at.isoformat(timespec="microseconds").removesuffix("+00:00")
        + "Z",
        "lane": job.lane,
    }
    if job.only_changed:
        document["only_changed"] = True
    if job.idempotency_key is not None:
        document["idempotency_key"] = job.idempotency_key
    wire = _ENCODER.encode(document)
    _check_size(wire)
    return wire


def email_of_wire(wire: str | bytes) -> str | None:
    """The email of wire text that may make no job; None if there is none to be found in it."""
    try:
        document = _parsed(wire)
        return _email(document.get("email")) if isinstance(document, Mapping) else None
    except InvalidJob:
        return None


class _Ruled(fields.Field[_T]):
    """A field whose rule is a function that returns the value as kept, or raises InvalidJob."""

    def __init__(self, rule: Callable[[Any], _T], **options: Any) -> None:
        super().__init__(**options)
        self._rule = rule

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> _T:
        try:
            return self._rule(value)
        except InvalidJob as invalid:
            raise ValidationError([error.message for error in invalid.errors]) from None


class _Value(fields.Field[Any]):
    """A value, by the rule of the type beside it."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,
        data: Mapping[str, Any] | None,
        **_: Any,
    ) -> Any:
        beside = data or {}
        try:
            type_ = attribute_type(beside.get("type"))
        except InvalidJob:
            return value  # the type's own error is reported
        try:
            return canonical(type_, value)
        except InvalidJob as invalid:
            note = key_note(beside.get("key"))
            raise ValidationError(invalid.errors[0].message + note) from None


class _Attributes(fields.Field[tuple[Attribute, ...]]):
    """The list of a job's attributes, each key once.

    Not `fields.List` with a validator: a validator runs only when nothing else is wrong, and a
    duplicate key is to be reported together with the rest.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[Attribute, ...]:
        if not isinstance(value, list | tuple):
            raise ValidationError(f"must be a list of attributes, not {kind(value)}")
        if not 1 <= len(value) <= MAX_ATTRIBUTES:
            raise ValidationError(f"a job has 1 to {MAX_ATTRIBUTES} attributes, this {len(value)}")
        # A schema for each attribute is only needed to say what is wrong.
        with suppress(InvalidJob):
            return right_documents(value)
        attributes: list[Attribute] = []
        errors: dict[int, Any] = {}
        first_position: dict[str, int] = {}
        for position, document in enumerate(value):
            try:
                attributes.append(Attribute(**_ATTRIBUTE.load(document)))
            except ValidationError as invalid:
                errors[position] = invalid.messages
            key = document.get("key") if isinstance(document, Mapping) else None
            if isinstance(key, str):
                first = first_position.setdefault(key, position)
                if first != position:
                    message = f"the same key as attributes[{first}]; a job sets a key once"
                    found = errors.setdefault(position, {})
                    found["key"] = [*found.get("key", ()), message]
        if errors:
            raise ValidationError(errors)
        return tuple(attributes)


def _email(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid(f"must be an email address, not {kind(value)}")
    email = normalized_email(value)
    if len(email) > MAX_EMAIL_CHARACTERS:
        raise _invalid(
            f"must have at most {MAX_EMAIL_CHARACTERS} characters; this has {len(email)}"
        )
    # The validator lets some of these through, lone surrogates among them.
    if not email.isprintable():
        raise _invalid("must be an email address without control characters")
    try:
        _is_email(email)
    except ValidationError:
        raise _invalid(
            f"must be an email address such as ada@example.com; this is {kind(email)}"
        ) from None
    return email


def _occurred_at(value: object) -> datetime:
    moment = instant(value)
    if moment.utcoffset() is None:
        # Unlike an attribute's value it decides which job is newer: an hour's guess is too much.
        raise _invalid("must name its zone, as 2016-01-31T00:00:00Z does")
    moment = in_utc(moment)
    if not EPOCH <= moment < END_OF_TIME:
        raise _invalid(f"must lie between {EPOCH:%Y} and {END_OF_TIME:%Y}")
    return moment


def _lane(value: object) -> Lane:
    if value == "live":
        return "live"
    if value == "bulk":
        return "bulk"
    raise _invalid(f'must be "live" or "bulk"; this is {kind(value)}')


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _invalid(f"must be true or false; this is {kind(value)}")
    return value


def _wire_version(value: object) -> int:
    if type(value) is not int or value != WIRE_VERSION:
        raise _invalid(f"must be the number {WIRE_VERSION}; this is {kind(value)}")
    return value


def _leave_later_versions(document: object) -> None:
    """Before any other rule: those of a later version are not known here."""
    version = document.get("v") if isinstance(document, Mapping) else None
    if type(version) is int and version > WIRE_VERSION:
        message = f"a later version than this release reads, which is {WIRE_VERSION}"
        raise UnknownWireVersion([FieldError(path="v", message=message)])


class _AttributeSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012  # marshmallow's own way to declare them
        "type": "must be an object with type, key and value",
        "unknown": "no such field; an attribute has type, key, value and source",
    }

    type = _Ruled[AttributeType](attribute_type, required=True)
    key = _Ruled[str](attribute_key, required=True)
    value = _Value(required=True)
    source = _Ruled[str](text, load_default=None)


class _JobSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012
        "type": "a job must be a JSON object",
        "unknown": "no such field; "
        "a job has v, email, attributes, occurred_at, lane, only_changed and idempotency_key",
    }

    v = _Ruled[int](_wire_version, required=True)
    email = _Ruled[str](_email, required=True)
    attributes = _Attributes(required=True)
    occurred_at = _Ruled[datetime](_occurred_at, required=True)
    lane = _Ruled[Lane](_lane, load_default=None)
    only_changed = _Ruled[bool](_flag, load_default=None)
    idempotency_key = _Ruled[str](text, load_default=None)


def _flattened(messages: Any, path: str = "") -> Iterator[FieldError]:
    """marshmallow's tree of messages, as a list with paths."""
    if not isinstance(messages, dict):
        for message in messages:
            yield FieldError(path=path, message=message)
        return
    for name, below in messages.items():
        if name == "_schema":
            step = path
        elif type(name) is int and 0 <= name < MAX_ATTRIBUTES:
            step = f"{path}[{name}]"
        else:
            step = f"{path}.{shown_field(name)}" if path else shown_field(name)
        yield from _flattened(below, step)


def shown_field(name: object) -> str:
    """A field's name in a path. One that is not a plain word may hold anything: it is not shown."""
    if isinstance(name, str) and len(name) <= 40 and name.isascii() and name.isidentifier():
        return name
    return "(unknown field)"


def _parsed(wire: str | bytes) -> object:
    _check_size(wire)
    try:
        return _DECODER.decode(wire.decode() if isinstance(wire, bytes) else wire)
    except InvalidJob:
        raise
    except UnicodeDecodeError as error:
        reason = f"the document is not UTF-8: see byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"the document is not JSON: see character {error.pos}"
    except RecursionError:
        reason = "the document is nested too deeply"
    except (ValueError, ArithmeticError):
        reason = "the document holds a number of too many digits"
    raise _invalid(reason, path="")


def _check_size(wire: str | bytes) -> None:
    size = len(wire)
    if isinstance(wire, str) and size <= MAX_WIRE_BYTES and not wire.isascii():
        size = len(wire.encode(errors="surrogatepass"))
    if size > MAX_WIRE_BYTES:
        raise _invalid(f"the document has more than {MAX_WIRE_BYTES} bytes", path="")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _invalid("the document has an object with two fields of the same name", path="")
    return found


def _no_constant(_: str) -> object:
    raise _invalid("the document holds NaN or Infinity, which are not JSON", path="")


def _invalid(message: str, path: str = "value") -> InvalidJob:
    return InvalidJob([FieldError(path=path, message=message)])


_is_email = validate.Email()
_ATTRIBUTE = _AttributeSchema()
_JOB = _JobSchema()
# Numbers are read as Decimal, since a float would lose digits before a rule could see them.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_no_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

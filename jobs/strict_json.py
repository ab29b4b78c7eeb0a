"""Reading JSON strictly: what RFC 8259 does not allow, or leaves open, is an error."""

from __future__ import annotations

import json
from decimal import Decimal


class StrictJSONError(ValueError):
    """Raised for text that is not JSON. Its text says why, and shows nothing of the document."""


def parse_json(text: str | bytes) -> object:
    """The value that JSON text stands for. Numbers with a point or exponent are Decimals.

    A float would lose digits before any rule could see them. Python's own reader takes a name twice
    in an object, NaN and Infinity; this one does not.

    Raises:
        StrictJSONError: the text is not JSON, or bytes are not UTF-8.
    """
    try:
        return _DECODER.decode(text.decode() if isinstance(text, bytes) else text)
    except StrictJSONError:
        raise
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: see byte {error.start + 1}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: see character {error.pos + 1}"
    except RecursionError:
        reason = "not readable: it is nested too deeply"
    except (ValueError, ArithmeticError):
        reason = "not readable: a number has too many digits"
    raise StrictJSONError(reason) from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StrictJSONError(
            "not JSON as RFC 8259 advises: an object has two fields of the same name"
        )
    return found


def _no_constant(_: str) -> object:
    raise StrictJSONError("not JSON: it has NaN or Infinity")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_no_constant
)

"""PF1: what ChartMogul repeats of a request is masked, and its words are made printable."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.config.secret import Secret
from attribute_courier.worker.masking import MAX_CHARACTERS, MAX_READ, masked

ADA = "ada+news@example.com"
KEY = "5f3c9a0de7b14c2f"


def seen(message: str, *values: object, email: str = ADA, key: str = KEY) -> str:
    return masked(message, email=email, values=values, api_key=Secret(key))


FORMS = {
    "plain": ADA,
    "upper case": ADA.upper(),
    "URL": quote(ADA),
    "URL, lower hex": quote(ADA).replace("%40", "%40").replace("%2B", "%2b"),
    "URL, twice": quote(quote(ADA)),
    "URL, every character": "".join(f"%{ord(char):02x}" for char in ADA),
    "form with a space for the plus": ADA.replace("+", " "),
    "HTML": "ada&#43;news&#64;example.com",
    "HTML, hex": "ada&#x2b;news&#x40;example&#x2E;com",
    "HTML, leading zeros": "ada&#0043;news&#0064;example.com",
    "HTML, names": "ada&plus;news&commat;example&period;com",
    "HTML of a URL": "ada%2Bnews&#37;40example.com",
    "JSON": "ada\\u002bnews\\u0040example.com",
    "JSON, twice": "ada\\\\u002Bnews\\\\u0040example.com",
    "JavaScript": "ada\\x2bnews\\x40example.com",
    "mixed": "ada%2Bnews\\u0040example&#46;com",
    "with an escape sequence in it": "ada\x1b[1m+news@exam\x1b[0mple.com",
    "with invisible characters in it": "ada+news\u200b@\u202eexample\ufeff.com",
    "cut off": "ada+news@examp…",
    "JavaScript, with braces": "ada\\u{2b}news\\u{40}example.com",
    "quoted-printable": "ada+news=40example.com",
    "for people": "ada+news(at)example.com",
    "for people, with blanks": "ada+news [ at ] example.com",
    "full width": "ada+news＠example.com",
    "base64": base64.b64encode(ADA.encode()).decode(),
    "base64, within more": base64.b64encode(f"to: {ADA}\n".encode()).decode(),
    "base64, for a URL": base64.urlsafe_b64encode(f"<{ADA}>".encode()).decode().rstrip("="),
    "hex": ADA.encode().hex(),
    "in quotes": f'"{ADA}"',
    "in brackets": f"<{ADA}>",
    "in an object": json.dumps({"email": ADA}),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_email_is_masked_in_every_form(form: str) -> None:
    line = seen(f"No customer with email: {FORMS[form]}, said x9")
    assert line.endswith(", said x9")
    assert "***" in line
    for piece in ("ada", "news", "example", "exam"):
        assert piece not in line.lower(), line


@pytest.mark.parametrize(
    "message",
    [
        f"No valid API key provided: {KEY}",
        f"key {KEY.upper()} is revoked",
        "key 5f3c9a0d******** is revoked",
        f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()} is wrong",
        f"Authorization: {base64.b64encode(f'{KEY}:'.encode()).decode()}",
        f"Authorization: {base64.b64encode(f'{KEY}:{KEY}'.encode()).decode()}",
        f"key ending in {KEY[-9:]}",
        f"key …{KEY[4:14]}…",
        f"Authorization: {base64.b64encode(f'x:{KEY}'.encode()).decode()}",
        f"Authorization: {base64.b64encode(f'ab:{KEY}'.encode()).decode()}",
        f"key {KEY.encode().hex()}",
        f"Authorization: {base64.urlsafe_b64encode(f'{KEY}:x'.encode()).decode().rstrip('=')}",
        f"key {''.join(f'%{ord(char):02X}' for char in KEY)}",
        f"Authorization%3A%20Basic%20{quote(base64.b64encode(f'{KEY}:'.encode()))}",
        "Basic c29tZWJvZHkgZWxzZSdzIGtleTo=",
        "Bearer somebody-elses-token",
        f"key {KEY[:9]}\x1b[0m{KEY[9:]}",
    ],
)
def test_the_api_key_is_masked_in_every_form(message: str) -> None:
    line = seen(message)
    encoded = base64.b64encode(f"{KEY}:".encode()).decode()
    assert "***" in line
    for secret in (KEY, KEY[:8], KEY[9:], encoded[:12], encoded[-8:], "c29t", "elses"):
        assert secret.lower() not in line.lower(), line


def test_a_short_key_is_masked_too() -> None:
    assert seen("key abc: no", key="abc") == "key ***: no"


@pytest.mark.parametrize(
    ("value", "message", "line"),
    [
        ("Facebook", 'value "facebook" is bad', 'value "***" is bad'),
        ("Köln & Bonn", "value K%C3%B6ln+%26+Bonn", "value ***"),
        ("Köln & Bonn", "value K&ouml;ln &amp; Bonn", "value ***"),
        ("Köln & Bonn", "value K\\u00f6ln \\u0026 Bonn", "value ***"),
        ('say "hi"', 'value "say \\"hi\\""', 'value "***"'),
        ("two\nlines", "value two lines", "value ***"),
        ("two\nlines", "value two\\nlines", "value ***"),
        ("a\x00b\x1b[31mc", "value ab\x1b[31mc", "value ***"),
        ("Größe", "value Gro\u0308\u00dfe", "value ***"),
        ("2016-01-31T00:00:00Z", "value 2016-01-31T00:00:00.000Z", "value ***.000Z"),
        ("2016-01-31T00:00:00Z", "value 2016-01-31 00:00:00 UTC", "value *** UTC"),
        (8, "8 is less than 18", "*** is less than 18"),
        (True, "True is no number", "*** is no number"),
        ("on", "on this connection", "*** this connection"),
        ("😀", "value \\ud83d\\ude00", "value ***"),
        ("C:\\new", "value C:\\new", "value ***"),
    ],
)
def test_a_value_is_masked_where_it_is_a_word(value: object, message: str, line: str) -> None:
    assert seen(message, value) == line


def test_the_longest_value_is_masked_first() -> None:
    assert seen("the plan is pro plus", "pro", "pro plus") == "the plan is ***"


def test_many_values_are_masked() -> None:
    values = [f"value number {n} " + "x" * 200 for n in range(250)]
    assert seen(f"is odd: {values[7]}, {values[249]}", *values) == "is odd: ***, ***"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("50% of %zz & more &nothing; \\q", "50% of %zz & more &nothing; \\q"),
        ("a%20b &amp; c", "a%20b &amp; c"),
        ("\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m \x1bwords", "red words"),
        ("\u202etext\u2066 \u200b\x00\x08is\ufeff odd", "text is odd"),
        ("one\r\ntwo\tthree\u2028four", "one two three four"),
        ("half \ud83d", "half"),
        ("", ""),
    ],
)
def test_what_is_not_private_stays_and_is_made_printable(message: str, line: str) -> None:
    assert seen(message) == line


def test_a_line_has_300_characters_at_most() -> None:
    line = seen("word " * 100)
    assert (len(line), line[-1]) == (MAX_CHARACTERS, "…")


def test_an_email_at_the_end_of_what_is_read_is_not_shown_in_part() -> None:
    """The values before it are long, so that what is left of the message is short."""
    value = "x" * 250
    message = (f"{value} " * 40)[: MAX_READ - 6] + " ada+new"
    assert "ada" not in seen(message, value)
    assert "xx" not in seen(message, value)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ENCODINGS = st.sampled_from(
    [str, quote, quote_plus, html.escape, lambda text: json.dumps(text)[1:-1], str.upper]
)


@given(st.text(st.characters(exclude_categories=[])), st.lists(WORDS, max_size=3))
def test_any_message_becomes_one_printable_line(message: str, values: list[str]) -> None:
    line = seen(message, *values)
    assert line.isprintable()
    assert len(line) <= MAX_CHARACTERS


@given(WORDS, WORDS, ENCODINGS, ENCODINGS)
def test_no_email_and_no_key_comes_through(
    before: str, after: str, encode: object, again: object
) -> None:
    for secret in ("bob.smith@mail.test", KEY):
        message = f"{before} {again(encode(secret))} {after}"  # type: ignore[operator]
        line = seen(message, email="bob.smith@mail.test").lower()
        assert secret not in line
        assert "smith@" not in line

"""The design's table "What an answer leads to", row by row, and answers of any form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.worker.chartmogul import MAX_BODY, Answer, NoAnswer
from attribute_courier.worker.verdicts import MAX_MESSAGE, Kind, Verdict, judge

ENTRY = {"uuid": "cus_1", "external_id": "cus_0001", "attributes": {"custom": {"age": 8}}}


def answered(status: int, body: bytes | dict[str, Any] | list[Any] | None = b"") -> Verdict:
    return judge(
        Answer(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())
    )


TABLE = {
    200: Kind.TAKEN,
    201: Kind.TAKEN,
    202: Kind.TAKEN,
    204: Kind.TAKEN,
    301: Kind.SERVER,
    302: Kind.SERVER,
    307: Kind.SERVER,
    308: Kind.SERVER,
    400: Kind.CONTENT,
    401: Kind.ACCOUNT,
    402: Kind.ACCOUNT,
    403: Kind.ACCOUNT,
    404: Kind.UNMATCHED,
    405: Kind.SERVER,
    408: Kind.SERVER,
    409: Kind.SERVER,
    418: Kind.SERVER,
    422: Kind.CONTENT,
    429: Kind.PACE,
    500: Kind.SERVER,
    502: Kind.SERVER,
    503: Kind.SERVER,
    504: Kind.SERVER,
    520: Kind.SERVER,
    524: Kind.SERVER,
    599: Kind.SERVER,
}


@pytest.mark.parametrize(("status", "kind"), TABLE.items())
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"code": 1, "message": "said", "param": null}',
        b'{"error": "said"}',
        b'{"errors": {"name": "said"}}',
    ],
    ids=["empty", "message", "error", "errors"],
)
def test_the_status_decides_whatever_the_body(status: int, kind: Kind, body: bytes) -> None:
    verdict = answered(status, body)
    assert verdict.kind is kind
    assert verdict.http_status == status


@pytest.mark.parametrize("status", sorted(TABLE))
def test_only_what_a_proxy_gave_up_on_may_still_act(status: int) -> None:
    assert answered(status).may_still_act is (status in {502, 504, 520, 524})


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Service unavailable: too many parallel connections.", Kind.PACE),
        ("Too many Connections", Kind.PACE),
        ("Service unavailable", Kind.SERVER),
        ("", Kind.SERVER),
    ],
)
def test_a_503_is_of_the_pace_only_if_it_says_so(message: str, kind: Kind) -> None:
    assert answered(503, {"code": 503, "message": message}).kind is kind
    assert answered(503, {"error": message}).kind is kind


@pytest.mark.parametrize("status", [500, 502, 400, 422, 404])
def test_a_word_about_connections_changes_no_other_status(status: int) -> None:
    assert answered(status, {"message": "connection"}).kind is TABLE[status]


class TestNothingCameBack:
    @pytest.mark.parametrize("sent", [True, False])
    def test_is_the_servers_and_may_act_only_if_it_was_sent(self, sent: bool) -> None:
        verdict = judge(NoAnswer(reason="the connection failed", sent=sent))
        assert verdict == Verdict(
            kind=Kind.SERVER, message="the connection failed", may_still_act=sent
        )


class TestA2xx:
    def test_with_customers_is_taken_and_hands_them_on(self) -> None:
        verdict = answered(200, {"entries": [ENTRY, ENTRY]})
        assert verdict == Verdict(kind=Kind.TAKEN, http_status=200, entries=(ENTRY, ENTRY))

    @pytest.mark.parametrize("status", [200, 201, 202])
    def test_with_no_customers_is_unmatched(self, status: int) -> None:
        verdict = answered(status, {"entries": []})
        assert verdict.kind is Kind.UNMATCHED
        assert verdict.message == "no customer has this email"

    @pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b"[]", b'{"entries": null}'])
    def test_that_names_no_customers_at_all_shows_nothing(self, body: bytes) -> None:
        assert answered(200, body) == Verdict(kind=Kind.TAKEN, http_status=200)

    @pytest.mark.parametrize(
        "body",
        [
            b"<html><body>Sign in to the network</body></html>",
            b'{"entries": [{"id": 25647, "attributes": {"cust',
            b"\xff\xfe\x00",
            b'{"entries": [' + b"[" * 100_000,
            b'{"entries": [' + b"9" * 5000 + b"]}",
        ],
        ids=["html", "broken off", "not text", "nested deeply", "a number of 5,000 digits"],
    )
    def test_that_is_not_json_is_the_servers_and_may_have_acted(self, body: bytes) -> None:
        verdict = answered(200, body)
        assert verdict.kind is Kind.SERVER
        assert verdict.may_still_act

    @pytest.mark.parametrize("entry", [None, 8, "x", [], {}, {"attributes": []}])
    def test_with_entries_of_any_form_is_taken(self, entry: object) -> None:
        assert answered(200, {"entries": [entry]}).entries == (entry,)


class TestTheMessage:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"code": 401, "message": "No valid API key provided", "param": null}', "No valid"),
            (b'{"error": "Not found"}', "Not found"),
            (b'{"errors": {"name": "is bad", "age": "is odd"}}', "name: is bad; age: is odd"),
            (b'{"errors": {"name": ["is bad", "is odd"]}}', "name: is bad, is odd"),
            (b'{"errors": ["is bad", "is odd"]}', "is bad; is odd"),
            ('{"message": "Größe 😀"}'.encode(), "Größe 😀"),
            (b'{"message": "is too long", "param": "custom[1].value"}', "custom[1].value: is"),
            (b'{"message": "email is bad", "param": "email"}', "email is bad"),
        ],
    )
    def test_is_read_out_of_each_shape(self, body: bytes, message: str) -> None:
        assert message in str(answered(422, body).message)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html><h1>502</h1></html>",
            b"null",
            b"8",
            b'"text"',
            b"[]",
            b"{}",
            b'{"message": null}',
            b'{"message": ""}',
            b'{"message": {"a": 1}}',
            b'{"error": ["x"]}',
            b'{"errors": {}}',
            b'{"errors": []}',
            b'{"errors": "x"}',
            b"{" * 100_000,
        ],
    )
    def test_is_the_status_where_there_are_no_words(self, body: bytes) -> None:
        assert answered(422, body).message == "HTTP 422"

    def test_of_an_enormous_body_is_kept_within_its_size(self) -> None:
        body = json.dumps({"message": "x" * 2 * MAX_BODY}).encode()[:MAX_BODY]
        assert answered(500, body).message == "HTTP 500", "cut off, and so no JSON"
        whole = json.dumps({"errors": {"a": "x" * 500_000}}).encode()
        assert len(str(answered(422, whole).message)) <= MAX_MESSAGE

    @pytest.mark.parametrize(
        "body",
        [
            b'{"message": "half of a pair: \\ud83d"}',
            b'{"errors": {"\\udcff": "is bad"}}',
            b'{"error": "\\udc80"}',
        ],
    )
    def test_can_always_be_written_as_utf_8(self, body: bytes) -> None:
        """Half of a surrogate pair is JSON, and no text: Redis would not take it."""
        assert str(answered(422, body).message).encode()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["message", "error", "errors", "entries", "attributes"]) | st.text(),
            inner,
        )
    ),
    max_leaves=20,
)


@given(status=st.integers(100, 599), body=st.binary() | _JSON.map(lambda x: json.dumps(x).encode()))
def test_no_answer_is_beyond_judgement(status: int, body: bytes) -> None:
    verdict = judge(Answer(status=status, body=body))
    assert verdict.http_status == status
    assert str(verdict.message).encode()
    if not 200 <= status < 300:
        assert verdict.message
        assert not verdict.entries


def test_a_page_with_404_says_nothing_of_the_email() -> None:
    """A wrong URL, or a proxy: not ChartMogul, whose errors are JSON."""
    verdict = answered(404, b"<html>Not Found</html>")
    assert verdict.kind is Kind.SERVER
    assert verdict.strange
    assert answered(404, b"").kind is Kind.UNMATCHED


@pytest.mark.parametrize("status", [302, 405, 418, 599])
def test_what_chartmogul_does_not_answer_is_strange(status: int) -> None:
    assert answered(status, b"").strange


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503, 524])
def test_what_it_may_answer_is_not(status: int) -> None:
    assert not answered(status, b"").strange

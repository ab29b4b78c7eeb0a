"""The design's table "What an answer leads to", row by row, and answers of any form.

CM1 and the like are cases of a public list of situations that were met.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.worker.chartmogul import MAX_BODY, Answer, NoAnswer
from attribute_courier.worker.confirm import shows
from attribute_courier.worker.masking import MAX_READ
from attribute_courier.worker.verdicts import Kind, Verdict, is_pong, judge, judge_route

ENTRY = {"uuid": "cus_1", "external_id": "cus_0001", "attributes": {"custom": {"age": 8}}}
AGE = Attribute.of("Integer", 8, key="age")
NO_CUSTOMER = {
    "code": 404,
    "message": 'Can\'t find any customers with email: "ada@example.com"',
    "param": "email",
}
PAGE = b"<html><head><style>p {}</style></head><body><h1>Who are you?</h1></body></html>"
TEXT = b"upstream said no"
SAID = {"code": 1, "message": "said", "param": None}


def answered(status: int, body: object = b"", **fields: Any) -> Verdict:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(Answer(status=status, body=raw, **fields))


def shown_by(verdict: Verdict, attribute: Attribute = AGE) -> int:
    return sum(shows(custom, attribute) for custom in verdict.shown)


# Each row: the status, then the kind for ChartMogul's body, a page, a text and nothing.
TABLE = {
    **dict.fromkeys((301, 302, 303, 307, 308, 304), (Kind.SERVER,) * 4),
    400: (Kind.CONTENT, *[Kind.SERVER] * 3),
    401: (Kind.ACCOUNT, *[Kind.SERVER] * 3),
    402: (Kind.ACCOUNT, *[Kind.SERVER] * 3),
    403: (Kind.ACCOUNT, *[Kind.SERVER] * 3),
    404: (Kind.ROUTE, *[Kind.SERVER] * 3),
    407: (Kind.ACCOUNT,) * 4,
    408: (Kind.SERVER,) * 4,
    413: (Kind.CONTENT,) * 4,
    425: (Kind.SERVER,) * 4,
    429: (Kind.PACE,) * 4,
    **dict.fromkeys(
        (405, 406, 409, 410, 411, 412, 414, 415, 418, 421, 422, 423, 424, 426, 428, 431, 451, 499),
        (Kind.CONTENT, *[Kind.SERVER] * 3),
    ),
    **dict.fromkeys((500, 501, 502, 503, 504, 505, 520, 521, 522, 524, 599), (Kind.SERVER,) * 4),
}


@pytest.mark.parametrize(("status", "kinds"), TABLE.items())
def test_an_error_is_judged_by_its_status_and_by_whose_body_it_has(
    status: int, kinds: tuple[Kind, ...]
) -> None:
    found = [answered(status, body).kind for body in (SAID, PAGE, TEXT, b"")]
    assert found == list(kinds)
    assert answered(status, SAID).http_status == status


@pytest.mark.parametrize("status", sorted(TABLE))
def test_only_what_a_proxy_gave_up_on_may_still_act(status: int) -> None:
    assert answered(status).may_still_act is (status in {502, 504, 520, 522, 524, 599})


@pytest.mark.parametrize("body", [b"null", b"8", b"true", b"{}", b"[]", b'""', b"{" * 100_000])
def test_json_that_is_in_none_of_its_shapes_is_not_chartmoguls(body: bytes) -> None:
    verdict = answered(422, body)
    assert verdict.kind is Kind.SERVER
    assert str(verdict.message).startswith("HTTP 422, but not from ChartMogul")


class TestPace:
    @pytest.mark.parametrize(
        "message",
        [
            "Service unavailable: too many parallel connections.",
            "Too many Connections",
            "Your request rate has exceeded our rate limit.",
        ],
    )
    @pytest.mark.parametrize("form", ["message", "error", "text"])
    def test_is_a_503_that_speaks_of_connections_or_rate(self, message: str, form: str) -> None:
        body = message.encode() if form == "text" else {form: message}
        assert answered(503, body).kind is Kind.PACE

    @pytest.mark.parametrize(
        "message",
        [
            "Service unavailable",
            "",
            "upstream connect error or disconnect/reset before headers: connection failure",
            "database connections refused",
            "We operate on the database",
        ],
    )
    def test_is_no_503_of_another_kind(self, message: str) -> None:
        assert answered(503, {"message": message}).kind is Kind.SERVER
        assert answered(503, message.encode()).kind is Kind.SERVER

    @pytest.mark.parametrize("status", [500, 502, 400, 422])
    def test_is_no_other_status_whatever_it_speaks_of(self, status: int) -> None:
        assert answered(status, {"message": "connections"}).kind is TABLE[status][0]

    def test_keeps_how_long_to_wait(self) -> None:
        assert answered(429, PAGE, retry_after_s=1.5).retry_after_s == 1.5


class TestNothingCameBack:
    @pytest.mark.parametrize("sent", [True, False])
    def test_is_the_servers_and_may_act_only_if_it_was_sent(self, sent: bool) -> None:
        verdict = judge(NoAnswer(reason="the connection failed", sent=sent))
        assert verdict == Verdict(
            kind=Kind.SERVER,
            message="the connection failed",
            may_still_act=sent,
            no_answer="connection",
        )
        late = judge(NoAnswer(reason="too late", sent=sent, timed_out=True))
        assert (late.attempt_class, late.reason) == ("timeout", "timeout")

    def test_is_the_accounts_where_our_own_side_is_at_fault(self) -> None:
        reason = "the proxy at proxy:3128 refused (407)"
        verdict = judge(NoAnswer(reason=reason, sent=False, own_side=True))
        assert verdict == Verdict(kind=Kind.ACCOUNT, message=reason, no_answer="own_side")


class TestA2xx:
    def test_with_customers_is_taken_and_hands_them_on(self) -> None:
        verdict = answered(200, {"entries": [ENTRY, ENTRY]})
        assert verdict.kind is Kind.TAKEN
        assert verdict.entries == (ENTRY, ENTRY)
        assert (verdict.message, shown_by(verdict)) == (None, 2)

    def test_tells_how_many_customers_show_a_value(self) -> None:
        """CM11"""
        old = {"uuid": "cus_2", "attributes": {"custom": {"age": 7}}}
        verdict = answered(200, {"entries": [ENTRY, old]})
        assert (shown_by(verdict), len(verdict.entries)) == (1, 2)

    @pytest.mark.parametrize("status", [200, 201, 203])
    @pytest.mark.parametrize(
        "body",
        [
            *(b'{"entries": null}', b'{"entries": []}', b"{}", b"[]", b"null", b"", b" \r\n"),
            *(b'{"errors": []}', b'{"error": null}', b'{"entries": {}}', b'{"custom": []}'),
            *(b'{"custom": {}}', b'{"data": []}', b"true"),
        ],
    )
    def test_without_customers_is_unmatched(self, status: int, body: bytes) -> None:
        """CM2"""
        verdict = answered(status, body)
        assert (verdict.kind, verdict.message) == (Kind.UNMATCHED, "no customer has this email")

    @pytest.mark.parametrize("status", [202, 204])
    @pytest.mark.parametrize("body", [b"", b"{}", b'{"entries": []}', b"null", b"Accepted"])
    def test_that_only_accepts_is_no_proof(self, status: int, body: bytes) -> None:
        """CM10"""
        verdict = answered(status, body)
        assert (verdict.kind, verdict.shown) == (Kind.TAKEN, ())
        assert verdict.unproven == f"ChartMogul accepted the request (HTTP {status}), without proof"

    def test_that_only_accepts_keeps_its_words(self) -> None:
        verdict = answered(202, {"message": "queued"})
        assert (verdict.kind, verdict.message) == (Kind.TAKEN, "queued")

    def test_of_202_that_shows_the_values_is_proof(self) -> None:
        assert shown_by(answered(202, {"entries": [ENTRY]})) == 1

    @pytest.mark.parametrize(
        "body",
        [
            {"custom": [{"type": "Integer", "key": "age", "value": 8}]},
            {"custom": {"age": 8}},
            {"entries": [{"attributes": {"custom": [{"key": "age", "value": 8}, None, {}]}}]},
            {"entries": {"attributes": {"custom": {"age": 8}}}},
            {"entries": {"0": ENTRY}},
            {"data": [ENTRY]},
            {"data": {"entries": [ENTRY]}},
            {"customer": ENTRY},
            {"entries": [{"attributes": {"custom": {"age": {"type": "Integer", "value": 8}}}}]},
            ENTRY,
            [ENTRY],
        ],
    )
    def test_may_show_the_values_in_other_shapes(self, body: object) -> None:
        """CM7"""
        verdict = answered(200, body)
        assert (verdict.kind, shown_by(verdict)) == (Kind.TAKEN, 1)
        assert not shows({"age": 9}, AGE)

    def test_with_a_name_that_is_no_utf_8_shows_its_values(self) -> None:
        body = json.dumps({"entries": [{**ENTRY, "name": "Größe"}]}, ensure_ascii=False)
        verdict = answered(200, body.encode("latin-1"))
        assert (verdict.kind, shown_by(verdict)) == (Kind.TAKEN, 1)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"entries": [ENTRY], "errors": {"age": "is odd"}}, "age: is odd"),
            ({"entries": [{}], "message": "nothing was set"}, "nothing was set"),
            ({"data": [ENTRY], "error": {"message": "is odd"}}, "is odd"),
            ({"entries": [ENTRY], "cursor": "abc", "note": "x"}, None),
            ({**ENTRY, "name": "Ada Lovelace"}, None),
            ([{**ENTRY, "name": "Ada Lovelace"}], None),
        ],
    )
    def test_keeps_the_words_of_an_error_beside_its_customers(
        self, body: object, message: str | None
    ) -> None:
        """And nothing else: all other texts are the customers'."""
        verdict = answered(200, body)
        assert (verdict.kind, verdict.message) == (Kind.TAKEN, message)

    def test_without_customers_does_not_take_a_cursor_for_words(self) -> None:
        verdict = answered(200, {"entries": [], "cursor": "abc", "has_more": False})
        assert (verdict.kind, verdict.message) == (Kind.UNMATCHED, "no customer has this email")

    @pytest.mark.parametrize("body", [PAGE, b'{"entries": [{"attributes": {"cust', b"\xff\xfe\x00"])
    def test_that_is_no_json_is_the_servers_and_may_have_acted(self, body: bytes) -> None:
        verdict = answered(200, body)
        assert verdict.kind is Kind.SERVER
        assert verdict.may_still_act
        assert verdict.strange

    @pytest.mark.parametrize(
        "body", [b'{"entries": [' + b"[" * 100_000, b'{"entries": [' + b"9" * 5000 + b"]}"]
    )
    def test_that_json_cannot_be_read_from_is_as_no_json(self, body: bytes) -> None:
        assert answered(200, body).kind is Kind.SERVER

    @pytest.mark.parametrize("entry", [None, 8, "x", [], {}, {"attributes": []}])
    def test_with_entries_of_any_form_is_taken(self, entry: object) -> None:
        verdict = answered(200, {"entries": [entry]})
        assert (verdict.kind, verdict.entries, verdict.shown) == (Kind.TAKEN, (entry,), ({},))


class TestA2xxLargerThanWeRead:
    """CM1"""

    large: ClassVar[dict[str, Any]] = {
        "uuid": "cus_1",
        "attributes": {"custom": {"age": 8} | {f"k{n}": 'v,"]}\\' * 50 for n in range(300)}},
    }

    def test_of_a_usual_kind_is_read_whole(self) -> None:
        body = {"entries": [{"attributes": {"custom": {f"k{n}": "v" * 250 for n in range(300)}}}]}
        raw = json.dumps({"entries": body["entries"] * 20}).encode()
        assert 1024 * 1024 < len(raw) < MAX_BODY
        assert len(answered(200, raw).entries) == 20

    @pytest.mark.parametrize("lost", range(12))
    def test_shows_what_was_read(self, lost: int) -> None:
        whole = json.dumps({"entries": [self.large] * 60}).encode()
        verdict = answered(200, b" " * lost + whole[: MAX_BODY - lost])
        assert verdict.kind is Kind.TAKEN
        assert shown_by(verdict) == len(verdict.entries) > 20

    def test_may_break_off_within_its_first_customer(self) -> None:
        custom = {"age": 8} | {f"k{n}": "x" * 250 for n in range(30_000)}
        body = json.dumps({"entries": [{"attributes": {"custom": custom}}]}).encode()
        verdict = answered(200, body[:MAX_BODY])
        assert shown_by(verdict) == 1
        assert not shows(verdict.shown[0], Attribute.of("String", "x" * 250, key="k29999"))

    @pytest.mark.parametrize("body", [b"[" * MAX_BODY, b'"' * MAX_BODY, b"<p>" * MAX_BODY])
    def test_is_never_the_servers_fault(self, body: bytes) -> None:
        verdict = answered(200, body[:MAX_BODY])
        assert (verdict.kind, verdict.shown) == (Kind.TAKEN, ())
        assert verdict.unproven.endswith("in the first 4 MiB of the answer")

    def test_as_an_error_keeps_its_kind(self) -> None:
        huge = json.dumps({"code": 422, "param": "age", "message": "x" * MAX_BODY}).encode()
        assert answered(422, huge[:MAX_BODY]).kind is Kind.CONTENT


class TestAnErrorWithinA200:
    """CM3"""

    @pytest.mark.parametrize(
        ("body", "kind", "message"),
        [
            (NO_CUSTOMER, Kind.UNMATCHED, "Can't find any customers"),
            ({**NO_CUSTOMER, "code": "404"}, Kind.UNMATCHED, "Can't find any customers"),
            ({"error": NO_CUSTOMER}, Kind.UNMATCHED, "Can't find any customers"),
            ({"error": "Can't find any customers with email"}, Kind.UNMATCHED, "Can't find any"),
            ({"error": "email is not valid"}, Kind.CONTENT, "email is not valid"),
            ({"errors": {"age": ["must be a number"]}}, Kind.CONTENT, "age: must be a number"),
            ({"entries": [], "error": "age is odd"}, Kind.CONTENT, "age is odd"),
            ({"code": 401, "message": "No valid API key provided"}, Kind.ACCOUNT, "No valid"),
            ({"message": "No valid API key provided", "param": None}, Kind.ACCOUNT, "No valid"),
            ({"error": "Your trial has expired"}, Kind.ACCOUNT, "Your trial"),
            ({"error": "Not found"}, Kind.ROUTE, "Not found"),
            ({"code": 404, "message": "Not found"}, Kind.ROUTE, "Not found"),
            ({"error": "Your request rate has exceeded our rate limit."}, Kind.PACE, "Your"),
            ({"code": 429}, Kind.PACE, "HTTP 429"),
            ({"error": {"status": 503, "message": "maintenance"}}, Kind.SERVER, "maintenance"),
            ({"error": "Internal server error"}, Kind.SERVER, "Internal server error"),
            ({"errors": [{"code": 429, "message": "slow down"}]}, Kind.PACE, "slow down"),
            ({"errors": [{"status": "503", "title": "Busy"}]}, Kind.SERVER, "title: Busy"),
            ([{"error": "age is odd"}], Kind.CONTENT, "age is odd"),
            ([{"code": 404, "message": "no customer"}], Kind.UNMATCHED, "no customer"),
            ({"message": "is odd", "param": "age"}, Kind.CONTENT, "age: is odd"),
            ({"success": False, "message": "age is odd"}, Kind.CONTENT, "age is odd"),
            ({"ok": False, "reason": "age is odd"}, Kind.CONTENT, "age is odd"),
            ({"status": "error", "message": "age is odd"}, Kind.CONTENT, "age is odd"),
            ("Can't find any customers", Kind.UNMATCHED, "Can't find any customers"),
            (["Not found"], Kind.ROUTE, "Not found"),
        ],
    )
    @pytest.mark.parametrize("status", [200, 202])
    def test_is_judged_by_what_it_says(
        self, status: int, body: object, kind: Kind, message: str
    ) -> None:
        verdict = answered(status, body)
        assert (verdict.kind, verdict.http_status) == (kind, status)
        assert message in str(verdict.message)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"message": "Thank you", "code": 200}, "Thank you"),
            ({"success": True, "message": "Thank you", "status": "ok"}, "Thank you"),
            ({"plan": "trial of the API key", "status": "ok"}, "plan: trial of the API key"),
            ("Thank you", "Thank you"),
            ({"success": False}, "no customer has this email"),
        ],
    )
    def test_that_says_nothing_of_an_error_is_none(self, body: object, message: str) -> None:
        verdict = answered(200, body)
        assert (verdict.kind, verdict.message) == (Kind.UNMATCHED, message)


class TestA404:
    @pytest.mark.parametrize(
        "body",
        [
            NO_CUSTOMER,
            {"error": "Customer not found"},
            {"errors": {"email": "is unknown"}},
            {"message": "no such e-mail"},
            {"code": 404, "message": "Not found", "param": "email"},
        ],
    )
    def test_that_speaks_of_the_email_is_unmatched(self, body: object) -> None:
        assert answered(404, body).kind is Kind.UNMATCHED

    @pytest.mark.parametrize(
        "body",
        [
            {"error": "Not found"},
            {"code": 404, "message": "Resource not found"},
            {"error": 'No route matches [POST] "/customers/attributes/custom"'},
            {"message": "no such path: POST /v1/customers"},
        ],
    )
    def test_that_does_not_is_decided_by_a_ping(self, body: object) -> None:
        """UP1"""
        verdict = answered(404, body)
        assert verdict.kind is Kind.ROUTE
        pong = Answer(status=200, body=b'{"data": "pong!"}')
        assert judge_route(verdict, pong).kind is Kind.UNMATCHED
        wrong = judge_route(verdict, Answer(status=404, body=b'{"error": "Not found"}'))
        assert wrong.kind is Kind.ACCOUNT
        assert "CHARTMOGUL_API_URL" in str(wrong.message)
        assert str(verdict.message) in str(wrong.message)

    @pytest.mark.parametrize("body", [PAGE, TEXT, b"{}", b""])
    def test_that_is_not_chartmoguls_may_be_a_wrong_urls(self, body: bytes) -> None:
        """UP1: another server answers there, and a ping gets the same."""
        page = answered(404, body)
        assert page.kind is Kind.SERVER
        assert page.route_in_doubt
        assert judge_route(page, Answer(status=200, body=b'{"data": "pong!"}')) == page
        wrong = judge_route(page, Answer(status=404, body=body))
        assert wrong.kind is Kind.ACCOUNT
        assert "CHARTMOGUL_API_URL" in str(wrong.message)

    @pytest.mark.parametrize("status", [200, 302, 400, 401, 500])
    def test_alone_puts_the_route_in_doubt(self, status: int) -> None:
        assert not answered(status, PAGE).route_in_doubt

    @pytest.mark.parametrize("body", [PAGE, b"{}", b""])
    def test_is_the_accounts_where_the_ping_gets_something_else(self, body: bytes) -> None:
        route = answered(404, {"error": "Not found"})
        assert judge_route(route, Answer(status=200, body=body)).kind is Kind.ACCOUNT
        assert judge_route(route, Answer(status=404, body=body)).kind is Kind.ACCOUNT
        assert judge_route(route, Answer(status=302, body=body)).kind is Kind.ACCOUNT

    def test_is_the_accounts_where_the_ping_is_refused(self) -> None:
        route = answered(404, {"error": "Not found"})
        refused = Answer(status=401, body=json.dumps({"message": "No valid API key"}).encode())
        verdict = judge_route(route, refused)
        assert (verdict.kind, verdict.message) == (Kind.ACCOUNT, "No valid API key")

    @pytest.mark.parametrize(
        ("ping", "kind"),
        [
            (Answer(status=429, body=b"", retry_after_s=7), Kind.PACE),
            (Answer(status=503, body=b""), Kind.SERVER),
            (Answer(status=502, body=b""), Kind.SERVER),
            (NoAnswer(reason="no answer within 5 s", sent=True), Kind.SERVER),
        ],
    )
    def test_is_not_decided_by_a_ping_that_got_no_word(
        self, ping: Answer | NoAnswer, kind: Kind
    ) -> None:
        verdict = judge_route(answered(404, {"error": "Not found"}), ping)
        assert verdict.kind is kind
        assert not verdict.may_still_act, "what a lost ping does harms nothing"


@pytest.mark.parametrize(
    ("answer", "pong"),
    [
        (Answer(status=200, body=b'{"data": "pong!"}'), True),
        (Answer(status=200, body=b"{}"), False),
        (Answer(status=200, body=PAGE), False),
        (Answer(status=401, body=b'{"data": "pong!"}'), False),
        (NoAnswer(reason="the connection failed", sent=True), False),
    ],
)
def test_a_pong_is_chartmoguls_answer_to_a_ping(answer: Answer | NoAnswer, pong: bool) -> None:
    assert is_pong(answer) is pong


class TestTheMessage:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (
                {"code": 401, "message": "No valid API key provided", "param": None},
                "No valid API key provided",
            ),
            ({"error": "Not found"}, "Not found"),
            ({"errors": {"name": "is bad", "age": "is odd"}}, "name: is bad; age: is odd"),
            ({"errors": {"name": ["is bad", "is odd"]}}, "name: is bad; name: is odd"),
            ({"errors": ["is bad", "is odd"]}, "is bad; is odd"),
            ({"message": "Größe 😀"}, "Größe 😀"),
            (
                {"message": "is too long", "param": "custom[1].value"},
                "custom[1].value: is too long",
            ),
            ({"message": "email is bad", "param": "email"}, "email is bad"),
            (
                {
                    "age": ["must be a number"],
                    "error_details": [
                        {"param": "age", "code": "invalid", "message": "must be a number"}
                    ],
                },
                "age: must be a number",
            ),
            ({"errors": [{"field": "age", "message": "is odd"}]}, "age: is odd"),
            ({"errors": {"custom": [{"value": ["is odd"]}]}}, "custom.value: is odd"),
            ({"error": {"message": "is odd", "type": "x"}}, "is odd"),
            ({"error": "Unprocessable", "message": "is odd"}, "is odd; Unprocessable"),
            ({"message": {"age": ["is odd"]}}, "age: is odd"),
            ({"message": ["is odd", "is bad"]}, "is odd; is bad"),
            ({"error": ["is odd"]}, "is odd"),
            ({"errors": "is odd"}, "is odd"),
            ({"detail": "is odd", "title": "Bad"}, "is odd; title: Bad"),
            ({"age": "is odd"}, "age: is odd"),
            (["is odd", {"message": "is bad"}], "is odd; is bad"),
            ("is odd", "is odd"),
        ],
    )
    def test_is_read_out_of_each_shape(self, body: object, message: str) -> None:
        """CM4 and further shapes."""
        verdict = answered(422, body)
        assert (verdict.kind, verdict.message) == (Kind.CONTENT, message)

    @pytest.mark.parametrize("body", [{"message": None}, {"message": ""}, {"errors": {}}])
    def test_is_the_status_where_there_are_no_words(self, body: object) -> None:
        verdict = answered(422, body)
        assert (verdict.kind, verdict.message) == (Kind.CONTENT, "HTTP 422")

    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (400, PAGE, "HTTP 400, but not from ChartMogul: Who are you?"),
            (403, b"", "HTTP 403, but not from ChartMogul"),
            (422, b"age is\nodd", "HTTP 422, but not from ChartMogul: age is odd"),
            (413, PAGE, "HTTP 413: Who are you?"),
            (502, b"<h1>Bad&nbsp;Gateway</h1>", "HTTP 502: Bad Gateway"),
            (429, b"", "HTTP 429"),
            (407, PAGE, "the proxy refused (407)"),
            (302, b"", "HTTP 302, but not from ChartMogul"),
            (500, b"<script>var x = '", "HTTP 500"),
        ],
    )
    def test_keeps_the_words_of_a_page(self, status: int, body: bytes, message: str) -> None:
        """CM12, CM13"""
        assert answered(status, body).message == message

    @pytest.mark.parametrize("depth", [19, 900])
    def test_of_a_deeply_nested_body_is_read_as_far_as_is_sensible(self, depth: int) -> None:
        verdict = answered(422, (b"[" * depth + b'"is odd"' + b"]" * depth))
        assert verdict.kind is (Kind.CONTENT if depth < 20 else Kind.SERVER)

    def test_of_an_enormous_body_is_kept_within_its_size(self) -> None:
        whole = json.dumps({"errors": {"a": "x" * 500_000}}).encode()
        assert len(str(answered(422, whole).message)) == MAX_READ + 1, "masking sees that it is cut"
        assert len(str(answered(500, b"x" * MAX_BODY).message)) <= MAX_READ + 1
        many = {"errors": {f"k{n}": "is odd" for n in range(100_000)}}
        assert len(str(answered(422, many).message)) <= MAX_READ + 1

    @pytest.mark.parametrize(
        "body",
        [
            b'{"message": "half of a pair: \\ud83d"}',
            b'{"errors": {"\\udcff": "is bad"}}',
            b'{"error": "\\udc80"}',
            b"\xed\xa0\xbd",
        ],
    )
    def test_can_always_be_written_as_utf_8(self, body: bytes) -> None:
        """Half of a surrogate pair is JSON, and no text: Redis would not take it."""
        assert str(answered(422, body).message).encode()


@pytest.mark.parametrize(
    ("status", "body", "strange"),
    [
        *[(status, b"", True) for status in (302, 400, 401, 404, 418, 599)],
        *[(status, SAID, False) for status in (400, 401, 404, 429, 500, 503, 524, 408)],
        (200, PAGE, True),
        (200, {"entries": [ENTRY]}, False),
    ],
)
def test_what_chartmogul_does_not_answer_is_strange(
    status: int, body: object, strange: bool
) -> None:
    assert answered(status, body).strange is strange

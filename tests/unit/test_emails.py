"""What can be an email, which spellings are one email, and how an email is shown."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attribute_courier.jobs.emails import (
    describe,
    email_fault,
    email_hash,
    mailbox_id_of,
    normalized_email,
    redacted_email,
    trimmed,
)
from attribute_courier.jobs.errors import InvalidJob
from attribute_courier.jobs.rules import email as email_rule

SPELLINGS_OF_ONE = [
    ("ada@example.com", " ada@EXAMPLE.com\n"),
    ("ada@example.com", "Ada@example.com"),
    ("ada@example.com", "\ufeffada@example.com\u200b"),
    ("ada@exämple.com", "ada@xn--exmple-cua.com"),
    ("ada@exämple.com", "ada@XN--EXMPLE-CUA.COM"),
    ("ada@exämple.com", "ada@EXÄMPLE.com"),
    ("ada@exämple.com", "ada@exa\u0308mple.com"),
    ("ada@例え.jp", "ada@例え。jp"),
    ("ada@例え.jp", "ada@xn--r8jz45g.jp"),
    ("ada@☃.net", "ada@xn--n3h.net"),
    ("ada@i❤.ws", "ada@xn--i-7iq.ws"),
    ("josé@example.com", "jose\u0301@example.com"),
    ("JOSÉ@example.com", "josé@example.com"),
]
EMAILS_OF_TWO = [
    ("ada@example.com", "ada@example.org"),
    ("ada@example.com", "a.da@example.com"),
    ("ada@example.com", "ada+news@example.com"),
    ("ada@example.com", '"ada"@example.com'),
    ("ada@straße.de", "ada@strasse.de"),
    ("straße@example.com", "strasse@example.com"),
    ("jose@example.com", "josé@example.com"),
    ("ada@example.com", "\udcff"),
    ("a@xn--exmple-cua.com", "a@xn--exmple-cub.com"),
]


class TestIdentity:
    @pytest.mark.parametrize(("one", "other"), SPELLINGS_OF_ONE)
    def test_spellings_of_one_email_share_a_mailbox(self, one: str, other: str) -> None:
        assert normalized_email(one) == normalized_email(other)
        assert mailbox_id_of(one) == mailbox_id_of(other)

    @pytest.mark.parametrize(("one", "other"), EMAILS_OF_TWO)
    def test_emails_of_two_people_do_not(self, one: str, other: str) -> None:
        assert normalized_email(one) != normalized_email(other)
        assert mailbox_id_of(one) != mailbox_id_of(other)

    def test_a_mailbox_id_is_short_safe_in_urls_and_tells_nothing_of_the_email(self) -> None:
        assert mailbox_id_of("ada@example.com") == "tfyF5VdV-eDQMKEKtEKbaw"

    @given(st.text(st.characters(exclude_categories=()), max_size=40) | st.emails())
    @example("a@\u212a.com")
    @example("İ@example.com")
    @example("a@İstanbul.com")
    @example("a@" + "ä" * 300)
    @settings(deadline=None, max_examples=300)
    def test_of_any_text_is_its_own_identity(self, text: str) -> None:
        identity = normalized_email(text)
        assert normalized_email(identity) == identity
        assert len(mailbox_id_of(text)) == 22


class TestWhatCanBeOne:
    @pytest.mark.parametrize(
        "email",
        [
            *("ada@example.com", "Ada.Lovelace+news@sub.example.co.uk", "a@b.io", "o'neil@x.org"),
            # Mailboxes of docomo and KDDI, from before these held to the RFC.
            *("a..b@docomo.ne.jp", ".a@docomo.ne.jp", "a.@ezweb.ne.jp", "a-.@docomo.ne.jp"),
            *("jörg@example.com", "用户@例子.广告", "ада@почта.рф", "ada@exämple.com", "a@i❤.ws"),
            *("ada@my_host.example.com", "ada@xn--exmple-cua.com", "ada@1.2.3.4"),
            *('"ada lovelace"@example.com', '"a@b"@example.com', '"a\\"b"@example.com'),
            *("ada@[192.0.2.1]", "ada@[IPv6:2001:db8::1]", "x" * 64 + "@example.com"),
            "a" * 242 + "@example.com",
            "ada@" + "x" * 63 + ".com",
        ],
    )
    def test_is_accepted_as_it_is(self, email: str) -> None:
        assert email_rule(email) == email

    @pytest.mark.parametrize(
        ("email", "said"),
        [
            ("", "is empty"),
            ("ada", 'no "@"'),
            ("ada＠example.com", 'no "@"'),
            ("@example.com", 'nothing before "@"'),
            ("ada@", 'nothing after "@"'),
            ("ada@example", 'no dot after "@"'),
            ("ada@localhost", 'no dot after "@"'),
            ("ada@.com", "a dot too many"),
            ("ada@example..com", "a dot too many"),
            ("ada@example.com.", "a dot too many"),
            ("ada@-example.com", '"-"'),
            ("ada@" + "x" * 64 + ".com", "too long"),
            ("a da@example.com", "a blank"),
            ("ada@exa mple.com", "a blank"),
            ("ada@bob@example.com", 'another "@"'),
            ("ada@example.com, bob@example.com", "another"),
            ("ada@example.com;", "has ;"),
            ("Ada Lovelace <ada@example.com>", "has"),
            ("<ada@example.com>", "has"),
            ("mailto:ada@example.com", "has :"),
            ("ada@exam/ple.com", "has /"),
            ('"ada@example.com', "has"),
            ('""@example.com', "a quote out of place"),
            ('"a"b"@example.com', "a quote out of place"),
            ("ada@[]", "has ["),
            ("a" * 243 + "@example.com", "at most 254"),
            ("ä" * 243 + "@example.com", "at most 254"),
            ("a\0da@example.com", "U+0000, at position 2"),
            ("ada\n@example.com", "U+000A, at position 4"),
            ("ada@exa\u200bmple.com", "U+200B, at position 8"),
            ("ada@\xa0example.com", "U+00A0, at position 5"),
            ("ada@ex\ud83eample.com", "U+D83E"),
            ("ada@ex\u2028ample.com", "U+2028"),
        ],
    )
    def test_what_cannot_be_one_is_told_why(self, email: str, said: str) -> None:
        with pytest.raises(InvalidJob) as caught:
            email_rule(email)
        assert said in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        "around", [" ", "\t", "\r\n", "\u200b", "\ufeff", "\xa0", "\u2060", "\0"]
    )
    def test_what_cannot_be_seen_around_it_is_no_part_of_it(self, around: str) -> None:
        assert email_rule(f"{around}Ada@example.com{around}{around}") == "Ada@example.com"

    @given(st.emails())
    @settings(deadline=None)
    def test_every_email_of_rfc_5322_is_one(self, email: str) -> None:
        assert email_fault(email) is None

    @given(st.text(st.characters(exclude_categories=())) | st.emails())
    @settings(deadline=None)
    def test_the_fault_of_any_text_can_be_printed(self, text: str) -> None:
        fault = email_fault(trimmed(text))
        assert fault is None or fault.isprintable()


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("ada@example.com", "a***@example.com"),
        ("x@example.com", "x***@example.com"),
        (" ada@example.com", "a***@example.com"),
        ('"a@b"@example.com', '"***@example.com'),
        ("@example.com", "***@example.com"),
        ("ada", "***"),
        ("ada@exam\nple.com", "***"),
        ("\udcff@example.com", "***"),
        ("", "***"),
        (None, "***"),
        (7, "***"),
        (b"ada@example.com", "***"),
    ],
)
def test_an_email_is_shown_without_the_name_in_it(email: object, shown: str) -> None:
    assert redacted_email(email) == shown


def test_what_is_for_an_email_is_described_in_a_line_without_it() -> None:
    assert describe("ada@example.com", 1) == "a***@example.com · 1 attribute"
    assert describe("ada@example.com", 2) == "a***@example.com · 2 attributes"
    assert describe("ada@example.com", 0) == "a***@example.com"
    assert describe("ada@example.com", 2, "f00d") == "a***@example.com · 2 attributes · f00d"


class TestHash:
    """What stands for an email in logs."""

    def test_is_the_same_for_all_spellings(self) -> None:
        assert re.fullmatch(r"[0-9a-f]{16}", email_hash("ada@example.com", b"key"))
        assert email_hash(" Ada@Example.com ", b"key") == email_hash("ada@example.com", b"key")
        assert email_hash("ada@example.com", b"key") != email_hash("bob@example.com", b"key")

    def test_takes_the_key(self) -> None:
        """A list of emails does not help: without the key, all of them are as likely."""
        assert email_hash("ada@example.com", b"key") != email_hash("ada@example.com", b"kez")
        plain = hashlib.sha256(b"ada@example.com").hexdigest()
        assert email_hash("ada@example.com", b"key") not in plain

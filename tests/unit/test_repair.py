"""What nothing points to is found again."""

from __future__ import annotations

from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.state.repair import (
    ForeignInbox,
    Repaired,
    Stranded,
    find_foreign_inboxes,
    find_stranded,
    repair,
)

from ..account_state import ADA, BOB, KEYS, Account


def test_mailboxes_whose_place_is_lost_are_due_again(account: Account) -> None:
    """RC15."""
    for n in range(3):
        account.staged(f"{n}@example.com", n=n)
    account.client.delete(KEYS.of("due:live"))
    assert account.claimed() == []
    assert repair(account.client, KEYS) == Repaired(mailboxes=3)
    assert account.health.status().repairs == 3
    assert len(account.deliver_all()) == 3


def test_mailboxes_that_stand_somewhere_are_left_there(account: Account) -> None:
    account.staged(ADA, n=1)
    account.settle(account.claim(), "pending", retry_s=60)
    account.staged(BOB, n=1)
    account.claim()
    before = account.state("repairing")
    assert repair(account.client, KEYS) == Repaired()
    assert account.state("repairing") == before


def test_an_email_that_only_rests_is_not_due(account: Account) -> None:
    account.staged(ADA, n=1)
    account.settle(account.claim(), "failed", rest_s=60)
    assert repair(account.client, KEYS) == Repaired()
    assert account.claimed() == []


def test_jobs_of_the_inbox_without_an_arrival_are_accepted(account: Account) -> None:
    lost, good = account.job(n=1), account.job(n=2)
    account.client.zrem(KEYS.of("inbox:live"), lost.job_id)
    assert repair(account.client, KEYS) == Repaired(jobs=1)
    assert sorted(account.take()) == sorted([lost.job_id, good.job_id])
    assert repair(account.client, KEYS, at_start=True) == Repaired(), "a worker has them"


def test_one_worker_looks_now_and_then_and_each_at_its_start(account: Account) -> None:
    assert repair(account.client, KEYS) is not None
    assert repair(account.client, KEYS) is None
    assert repair(account.client, KEYS, at_start=True) is not None


def look(account: Account, within_s: float = 60) -> Stranded:
    return find_stranded(account.client, KEYS, within_s=within_s)


def test_looking_finds_the_same_and_changes_nothing(account: Account) -> None:
    account.staged(ADA, n=1)
    account.staged(BOB, n=1)
    lost = account.job(n=1)
    account.job(n=2)
    assert look(account) == Stranded()
    account.client.zrem(KEYS.of("inbox:live"), lost.job_id)
    account.client.zrem(KEYS.of("due:live"), mailbox_id_of(ADA))
    account.client.delete(KEYS.of("mailbox", mailbox_id_of(BOB)))
    before = account.state()
    assert look(account) == Stranded(mailboxes=1, jobs=1, records=1)
    assert account.state() == before
    assert repair(account.client, KEYS) == Repaired(mailboxes=1, jobs=1)
    assert look(account) == Stranded(records=1), "no repair brings values back"


def test_looking_ends_in_time(account: Account) -> None:
    account.staged(ADA, n=1)
    assert not look(account, within_s=-1).whole


def test_inboxes_where_nobody_looks_are_found(account: Account) -> None:
    """What publishers in other languages get wrong, and nothing else would tell."""
    account.job(n=1)
    assert find_foreign_inboxes(account.client, ["default"], within_s=60) == []
    for start in ("courier:default:", "courier:", "courier:{shop}:"):
        account.client.hset(f"{start}inbox", mapping={"a": "{}", "b": "{}"})
        account.client.zadd(f"{start}inbox:live", {"a": 1})
    account.client.set("courier:{none}:inbox", "of another type")
    assert find_foreign_inboxes(account.client, ["default"], within_s=60) == [
        ForeignInbox(key="courier:inbox", account=None, jobs=2),
        ForeignInbox(key="courier:default:inbox", account=None, jobs=2),
        ForeignInbox(key="courier:{none}:inbox", account="none", jobs=0),
        ForeignInbox(key="courier:{shop}:inbox", account="shop", jobs=2),
    ]
    assert find_foreign_inboxes(account.client, ["default"], within_s=-1)[1:] == []
    strangers = [key for key in account.names() if not key.startswith(KEYS.prefix)]
    account.client.delete(*strangers)

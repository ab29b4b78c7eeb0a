"""Whether a worker stops; that children see it, too, is tested with a real prefork worker."""

from __future__ import annotations

import threading

from attribute_courier.worker.stopping import Stopping


def test_a_note_is_seen_and_wakes_nobody() -> None:
    """It takes no lock: the code that the signal interrupts may hold it."""
    stopping = Stopping()
    assert not stopping.wait(0)
    with stopping._cond:  # type: ignore[attr-defined]
        stopping.note()
        assert stopping.is_set()
    assert stopping.wait(60)


def test_setting_it_ends_a_wait() -> None:
    stopping = Stopping()
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(stopping.wait(60)))
    thread.start()
    stopping.set()
    thread.join(30)
    assert ended == [True]

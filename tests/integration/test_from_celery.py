"""docs/from-celery.md, followed step by step: the old task, what it does wrong, and moving over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from attribute_courier.sandbox import Fault

from ..conftest import Courier
from ..waiting import wait_until
from .test_documentation import BLOCKS, CONSOLES, Block, Command, Served, assert_shown, kind_of, run

pytest.importorskip("chartmogul")

ADA = "ada@example.com"
HERE = [block for block in BLOCKS if block.page.name == "from-celery.md"]
OLD, NEW = [block for block in HERE if block.file_name == "tasks.py"]
[TEST] = [block for block in HERE if block.file_name == "test_shop.py"]
[SERVE, TEST_IT, *INSPECT] = [
    command
    for block in CONSOLES
    if block in HERE
    for command in block.commands
    if kind_of(command) == "host"
]
UNAVAILABLE = Fault(kind="status", status=503, email=ADA)


class Shop:
    """The project of the page, in a directory of its own."""

    def __init__(self, folder: Path, courier: Courier) -> None:
        self.folder = folder
        self.courier = courier
        # Its broker is another database of the same Redis.
        self.environ = courier.environ | {
            "BROKER_URL": courier.environ["COURIER_REDIS_URL"].removesuffix("/0") + "/1"
        }
        self._celery = Celery("shop", broker=self.environ["BROKER_URL"])

    def write(self, block: Block) -> None:
        (self.folder / block.file_name).write_text("\n".join(block.lines), "utf-8")

    def delay(self, *, task_id: str | None = None, **attributes: str) -> None:
        """What a caller of the old task does."""
        self._celery.send_task("tasks.add_attributes", [ADA, attributes], task_id=task_id)

    def worker(self) -> Served:
        # One process, so that the order in which tasks run is known.
        more = ("--concurrency", "1", "--loglevel", "INFO", "--without-mingle")
        return Served(SERVE, self.folder, *more, **self.environ)

    def shows(self, command: Command) -> bool:
        """Whether it prints what the page shows. Celery waits a second for workers' answers."""
        try:
            assert_shown(command.shown, run(command.text, self.folder, **self.environ))
        except AssertionError:
            return False
        return True

    def plans(self) -> list[tuple[str, int]]:
        """The plans that ChartMogul was sent, and what it answered."""
        return [(post["custom"][0]["value"], post["status"]) for post in self.courier.posts(ADA)]


@pytest.fixture
def shop(courier: Courier, tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    folder.mkdir()
    shop = Shop(folder, courier)
    yield shop
    shop._celery.close()


def test_a_retry_of_the_old_task_replaces_a_newer_value(shop: Shop, courier: Courier) -> None:
    shop.write(OLD)
    courier.stand_in.configure(faults=[Fault(kind="status", status=503, email=ADA, count=1)])
    shop.delay(plan="free")
    shop.delay(plan="pro")
    with shop.worker():
        wait_until(lambda: len(shop.plans()) == 3, timeout_s=60, what="free was tried again")
    assert shop.plans() == [("free", 503), ("pro", 200), ("free", 200)]
    assert courier.custom(ADA)["plan"] == "free"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_moving_over_loses_nothing_and_the_newest_wins(shop: Shop, courier: Courier) -> None:
    shop.write(OLD)
    courier.stand_in.configure(faults=[UNAVAILABLE])
    shop.delay(plan="free")
    shop.delay(seats="4")
    with shop.worker() as old:
        wait_until(lambda: len(shop.plans()) >= 2, timeout_s=60, what="both wait to be tried again")
        old.stop()
    courier.stand_in.configure(faults=[])

    courier.start_worker()
    newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
    assert courier.wait(newer)[0].status == "delivered"
    shop.write(NEW)
    with shop.worker() as worker:
        wait_until(lambda: len(courier.outcomes.of_email(ADA)) == 3, timeout_s=60)
        wait_until(
            lambda: all(each.settled for each in courier.outcomes.of_email(ADA)), timeout_s=60
        )
        found = {(*each.keys, each.status) for each in courier.outcomes.of_email(ADA)}
        assert found == {("plan", "delivered"), ("plan", "superseded"), ("seats", "delivered")}
        assert courier.custom(ADA) | {"plan": "pro", "seats": "4"} == courier.custom(ADA)
        for command in INSPECT:
            wait_until(lambda each=command: shop.shows(each), timeout_s=60, what=command.text)
        assert worker.stop() == 0


@pytest.mark.long
def test_what_cannot_be_handed_over_is_tried_again_and_is_one_job(
    shop: Shop, courier: Courier
) -> None:
    shop.write(NEW)
    reached = shop.environ["COURIER_REDIS_URL"]
    shop.environ["COURIER_REDIS_URL"] = "redis://127.0.0.1:1/0"
    task_id = str(uuid4())
    shop.delay(plan="free", task_id=task_id)
    with shop.worker() as worker:
        worker.wait_for("NotEnqueued")
        worker.stop()
    shop.environ["COURIER_REDIS_URL"] = reached
    with shop.worker() as worker:
        worker.wait_for("succeeded")
        shop.delay(plan="free", task_id=task_id)  # as after a worker's death
        wait_until(lambda: worker.printed.count("succeeded") == 2, timeout_s=60)
    assert len(courier.outcomes.of_email(ADA)) == 1


def test_its_test_needs_no_redis(shop: Shop) -> None:
    shop.write(TEST)
    command = Command(TEST_IT.text.replace("python", sys.executable), ())
    assert "1 passed" in run(f"{command.text} -p no:cacheprovider", shop.folder)

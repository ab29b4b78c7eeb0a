"""Which node of a Redis Cluster is asked: what nodes say of it, and what else is met."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from attribute_courier.config import Settings, SettingsError
from attribute_courier.config.cluster import ClusterClient, Node, Nodes
from attribute_courier.config.connections import ClusterConnection, connect_briefly, until
from attribute_courier.config.redis_errors import WrongServerError, describe_redis_error
from attribute_courier.config.redis_url import parse_redis_url
from attribute_courier.config.rights import needed_rights
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.shards import ask_each, by_shard, client_of, first_of, one_of_each

from ..proxy import Proxy

A, B, C = ("a", 1), ("b", 2), ("c", 3)
HALVES = [[0, 8191, ["a", 1, "id"], ["c", 3, "id"]], [8192, 16383, ["b", 2, "id"]]]


class Asked:
    """Nodes that answer what they are set to."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = answers
        self.asked: list[Node] = []

    def __call__(self, node: Node) -> Any:
        self.asked.append(node)
        answer = self.answers.get(node[0], redis.ConnectionError("away"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attribute_courier.config.cluster.ASK_EVERY_S", 0)


class TestNodes:
    def test_they_are_asked_once_for_all_slots(self) -> None:
        asked = Asked(a=HALVES)
        nodes = Nodes([A], asked)
        assert [nodes.holder(slot) for slot in (0, 8191, 8192, 16383)] == [A, A, B, B]
        assert asked.asked == [A]

    def test_for_what_concerns_no_key_any_node_will_do(self) -> None:
        nodes = Nodes([A, B], Asked(b=HALVES))
        assert nodes.holder(None) == A
        nodes.doubt(A)
        assert nodes.holder(None) == B

    def test_a_node_that_does_not_answer_is_asked_last(self) -> None:
        asked = Asked(b=HALVES)
        nodes = Nodes([A, B], asked)
        assert nodes.holder(0) == A
        nodes.doubt(A)
        assert nodes.holder(0) == A, "the others still say so"
        assert asked.asked == [A, B, B]

    def test_where_a_node_is_in_doubt_the_others_are_asked(self) -> None:
        """After a failover."""
        asked = Asked(a=HALVES)
        nodes = Nodes([A], asked)
        assert nodes.holder(0) == A
        asked.answers = {"c": [[0, 8191, ["c", 3, "id"]], HALVES[1]]}
        nodes.doubt(A)
        assert nodes.holder(0) == C
        assert nodes.holder(9000) == B

    def test_what_a_node_says_of_one_slot_holds_until_they_are_asked_again(self) -> None:
        asked = Asked(a=HALVES)
        nodes = Nodes([A], asked)
        assert nodes.holder(7) == A
        nodes.moved(7, B)
        assert [nodes.holder(7), nodes.holder(8)] == [B, A]
        nodes.doubt(B)
        assert nodes.holder(7) == A
        assert len(asked.asked) == 2

    def test_a_node_without_a_name_is_the_one_that_was_asked(self) -> None:
        nodes = Nodes([A], Asked(a=[[0, 16383, ["", 6379, "id"]]]))
        assert nodes.holder(0) == ("a", 6379)
        nodes = Nodes([A], Asked(a=[[0, 16383, [None, 6379, "id"]]]))
        assert nodes.holder(0) == ("a", 6379)

    def test_a_node_that_left_the_cluster_is_not_believed(self) -> None:
        nodes = Nodes([A, B], Asked(a=[], b=HALVES))
        assert nodes.holder(0) == A

    def test_the_given_nodes_are_asked_when_all_others_have_gone(self) -> None:
        """All addresses may have changed but the names, as in Kubernetes."""
        asked = Asked(a=[[0, 16383, ["b", 2, "id"]]])
        nodes = Nodes([A], asked)
        assert nodes.holder(0) == B
        asked.answers = {"a": [[0, 16383, ["c", 3, "id"]]]}
        nodes.doubt(B)
        assert nodes.holder(0) == C

    def test_a_slot_that_nobody_holds(self) -> None:
        nodes = Nodes([A], Asked(a=[HALVES[0]]))
        with pytest.raises(redis.ConnectionError, match="no node of the cluster holds the slot 9"):
            nodes.holder(9000)

    def test_nobody_answers(self) -> None:
        with pytest.raises(redis.ConnectionError, match="away"):
            Nodes([A, B], Asked()).holder(0)

    def test_an_error_answer_is_told_at_once(self) -> None:
        asked = Asked(a=redis.exceptions.NoPermissionError("no"), b=HALVES)
        with pytest.raises(redis.exceptions.NoPermissionError):
            Nodes([A, B], asked).holder(0)

    def test_many_who_doubt_ask_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("attribute_courier.config.cluster.ASK_EVERY_S", 60)
        asked = Asked(a=HALVES)
        nodes = Nodes([A], asked)
        for _ in range(50):
            nodes.holder(0)
            nodes.doubt(A)
        assert len(asked.asked) == 1

    def test_whoever_needs_no_answer_does_not_wait_for_one(self) -> None:
        asking, go_on = threading.Event(), threading.Event()
        asked = Asked(a=HALVES)
        nodes = Nodes([A], asked)
        nodes.holder(0)

        def slowly(node: Node) -> Any:
            asking.set()
            go_on.wait(30)
            return HALVES

        nodes._ask = slowly
        nodes.doubt(A)
        thread = threading.Thread(target=nodes.holder, args=(0,))
        thread.start()
        assert asking.wait(30)
        assert nodes.holder(9000) == B
        nodes.doubt(A)
        with pytest.raises(redis.TimeoutError):
            nodes.holder(0, within_s=0.01)
        go_on.set()
        thread.join()

    def test_a_lock_that_another_thread_had_at_the_fork_stops_nobody(self) -> None:
        nodes = Nodes([A], Asked(a=HALVES))
        nodes._lock.acquire()
        nodes._process = 0  # as a child sees it
        assert nodes.holder(0, within_s=5) == A

    def test_two_threads_of_a_child_may_look_first(self) -> None:
        """Each has made a lock then, and releases its own."""
        nodes = Nodes([A], Asked(a=HALVES))

        def meanwhile(node: Node) -> Any:
            nodes._ask, nodes._process = Asked(a=HALVES), 0
            other = threading.Thread(target=nodes.holder, args=(0,))
            other.start()
            other.join()
            return HALVES

        nodes._ask = meanwhile
        assert nodes.holder(0) == A


BROKER = "redis://broker.example:6379/0"


def settings_of(url: str = "cluster://redis.example:7000") -> Settings:
    return Settings(redis_url=url, broker_url=BROKER, enqueue_timeout_s=1)


class TestSettings:
    def test_a_cluster_needs_another_broker(self) -> None:
        for url in ("cluster://a:1,b:2", "rediss+cluster://a"):
            assert Settings(redis_url=url, broker_url=BROKER).own_broker
            with pytest.raises(SettingsError) as caught:
                Settings(redis_url=url)
            assert str(caught.value) == (
                "broker_url: is needed beside a cluster in redis_url: Celery sends no messages "
                "over a Redis Cluster. Name one Redis, or RabbitMQ"
            )

    def test_the_rights_that_it_takes(self) -> None:
        producer, worker = needed_rights(settings_of().redis)
        assert producer.endswith(" +cluster|slots")
        assert worker.endswith(" +cluster|slots")
        assert "celery" not in worker, "messages go another way"


class TestWords:
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (redis.exceptions.ClusterDownError("Hash slot not served"), "a primary down without"),
            (redis.exceptions.MovedError("7 10.0.0.1:7001"), "hands a slot over to another node"),
            (redis.exceptions.AskError("7 10.0.0.1:7001"), "hands a slot over to another node"),
            (redis.exceptions.TryAgainError("Multiple keys"), "hands a slot over to another node"),
        ],
    )
    def test_what_passes(self, error: Exception, words: str) -> None:
        said = describe_redis_error(settings_of(), error)
        assert words in said
        assert "othing is lost: it goes on by itself" in said

    @pytest.mark.parametrize(
        "error",
        [
            redis.exceptions.ClusterDownError("The cluster is down"),
            redis.exceptions.MovedError("7 10.0.0.1:7001"),
            redis.exceptions.AskError("7 10.0.0.1:7001"),
        ],
    )
    def test_a_cluster_behind_the_address_of_one_redis(self, error: Exception) -> None:
        said = describe_redis_error(Settings(redis_url="redis://redis.example:7000"), error)
        assert "is part of a Redis Cluster" in said
        assert "cluster://host:6379,host:6379" in said
        assert "COURIER_BROKER_URL" in said

    def test_one_redis_behind_the_address_of_a_cluster(self, server: EmbeddedRedis) -> None:
        settings = settings_of(server.url.replace("redis://", "cluster://").removesuffix("/0"))
        client: Any = connect_briefly(settings)
        with pytest.raises(redis.RedisError) as caught:
            client_of(client, "courier:{x}:").get("courier:{x}:y")
        client.close()
        said = describe_redis_error(settings, caught.value)
        assert "is no cluster" in said
        assert "must be redis://host:6379/0" in said

    def test_no_password(self) -> None:
        settings = settings_of("cluster://ada:hush@127.0.0.1:1,127.0.0.1:2")
        client: Any = connect_briefly(settings)
        with pytest.raises(redis.ConnectionError) as caught:
            client.ping()
        said = describe_redis_error(settings, caught.value)
        assert said.startswith("Redis at cluster://127.0.0.1:1,127.0.0.1:2")
        assert "does not answer (Connection refused)" in said
        assert "hush" not in said


def test_a_cluster_of_which_nobody_answers_costs_no_more_than_the_time_there_is() -> None:
    with ExitStack() as silent:
        nodes = [silent.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        hosts = ",".join(f"127.0.0.1:{node.getsockname()[1]}" for node in nodes)
        settings = replace(settings_of(f"cluster://{hosts}"), enqueue_timeout_s=100)
        client: Any = connect_briefly(settings)
        began_s = time.monotonic()
        with until(began_s + 0.5), pytest.raises(redis.RedisError):
            client_of(client, "courier:{x}:").get("courier:{x}:y")
        assert time.monotonic() < began_s + 20


def client_of_nodes(nodes: Nodes, server: EmbeddedRedis) -> redis.Redis:
    """A client for the slot 7, with the login of a server."""
    password = parse_redis_url(server.url).password
    assert password is not None
    pool = redis.ConnectionPool(
        connection_class=ClusterConnection,
        nodes=nodes,
        slot=7,
        password=password.reveal(),
        socket_timeout=1,
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        protocol=2,
    )
    return redis.Redis.from_pool(pool)


def answers(client: redis.Redis) -> bool:
    """Old versions of redis-py try no second time where the login of a connection fails."""
    with suppress(redis.RedisError):
        return bool(client.ping())
    return bool(client.ping())


def node_of(url: str) -> Node:
    address = parse_redis_url(url)
    return address.host, address.port


def test_a_node_that_falls_silent_is_doubted(server: EmbeddedRedis) -> None:
    """It takes connections, and answers nothing; meanwhile another one has its place."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = silent.getsockname()[:2]
        holders = [node, node_of(server.url)]
        nodes = Nodes([node], lambda _: [[0, 16383, [*holders.pop(0), "id"]]])
        with client_of_nodes(nodes, server) as client:
            assert answers(client)


def test_where_a_slot_has_moved_the_other_node_is_asked_at_once(server: EmbeddedRedis) -> None:
    """Although all the others have not heard of it yet."""
    host, port = node_of(server.url)
    with Proxy(server.url) as proxy:
        old = node_of(proxy.url)
        proxy.answer = f"-MOVED 7 {host}:{port}\r\n".encode()
        nodes = Nodes([old], lambda _: [[0, 16383, [*old, "id"]]])
        with client_of_nodes(nodes, server) as client:
            assert nodes.holder(7) == old
            assert answers(client)
            assert nodes.holder(8) == old


@pytest.mark.parametrize("answer", ["ASK 7 127.0.0.1:1", "TRYAGAIN Multiple keys", "CLUSTERDOWN x"])
def test_while_a_slot_moves_the_same_is_asked_again_later(
    server: EmbeddedRedis, answer: str
) -> None:
    with Proxy(server.url) as proxy:
        node = node_of(proxy.url)
        proxy.answer = f"-{answer}\r\n".encode()
        nodes = Nodes([node], lambda _: [[0, 16383, [*node, "id"]]])
        with client_of_nodes(nodes, server) as client, pytest.raises(WrongServerError):
            client.ping()


class TestShards:
    def test_a_single_redis_is_one_shard(self, client: redis.Redis) -> None:
        assert client_of(client, "x") is client
        assert by_shard(client, ["a", "b"]) == [(client, ["a", "b"])]
        assert one_of_each(client, ["a", "b"]) == {"": "a"}
        assert ask_each(client, ["a", "b"], str.upper) == ({"a": "A", "b": "B"}, {})

    def test_of_a_single_redis_an_error_is_one_of_all(self, client: redis.Redis) -> None:
        with pytest.raises(redis.RedisError):
            ask_each(client, ["a", "b"], self._fails_for("b"))
        with pytest.raises(redis.RedisError):
            first_of(client, ["a", "b"], self._fails_for("a"))

    def test_of_a_cluster_it_is_one_of_its_account(self) -> None:
        client = connect_briefly(settings_of())
        answers, errors = ask_each(client, ["a", "b", "c"], self._fails_for("b"))
        assert answers == {"a": "a", "c": "c"}
        assert list(errors) == ["b"]
        assert first_of(client, ["b", "a"], self._fails_for("b")) == "a"
        for ask in (ask_each, first_of):
            with pytest.raises(redis.RedisError):
                ask(client, ["b"], self._fails_for("b"))

    def test_of_a_cluster_each_account_is_by_itself(self) -> None:
        client = connect_briefly(settings_of())
        assert isinstance(client, ClusterClient)
        (first, some), (second, others) = by_shard(client, ["a", "b"])
        assert (some, others) == (["a"], ["b"])
        assert first is client_of(client, "courier:{a}:inbox")
        assert second is not first
        assert client_of(first, "courier:{a}:inbox") is first

    @staticmethod
    def _fails_for(name: str) -> Any:
        def ask(account: str) -> str:
            if account == name:
                raise redis.ConnectionError("away")
            return account

        return ask

"""Redis behind a Unix socket or TLS, or under Sentinels that are not of one mind."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from attribute_courier.cli import main
from attribute_courier.config import Secret, Settings, SettingsError, load_settings
from attribute_courier.config.connections import (
    connect_briefly,
    connect_patiently,
    sentinels_of,
)
from attribute_courier.config.redis_errors import RedisError, describe_redis_error
from attribute_courier.jobs.errors import NotEnqueued
from attribute_courier.operate.broker import round_trip_s
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis

from ..cli_runner import CliRunner
from ..conftest import Courier
from ..proxy import Proxy
from ..sentinels import MASTER, SENTINEL_PASSWORD, Sentinel, port_of

TLS = Path(__file__).parents[1] / "tls"
FILES = {
    "COURIER_REDIS_CA_FILE": f"{TLS}/ca.pem",
    "COURIER_REDIS_CERT_FILE": f"{TLS}/client.pem",
    "COURIER_REDIS_KEY_FILE": f"{TLS}/client.key",
}


def delivers(courier: Courier, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    """A worker and a producer with these settings."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    worker = courier.start_worker(**environ)
    settings = load_settings()
    producer = Producer(settings)
    receipt = producer.add_attributes("0@load.example", {"n": 1})
    assert receipt.wait(20).status == "delivered"
    assert round_trip_s(settings) < 5, "a message comes through"
    producer.close()
    assert worker.running
    assert f"Connected to {settings.redis_address}" in courier.log()
    assert "Traceback" not in courier.log()
    assert courier.server.password not in courier.log()


def said(settings: Settings) -> str:
    """What is told of a Redis that does not answer."""
    client = connect_briefly(settings)
    try:
        client.ping()
    except RedisError as error:
        return describe_redis_error(settings, error)
    finally:
        client.close()
    raise AssertionError("it answers")


class TestAUnixSocket:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[EmbeddedRedis]:
        class WithSocket(EmbeddedRedis):
            def _options(self, port: int) -> list[str]:
                return [*super()._options(port), "--unixsocket", "redis.sock"]

        with WithSocket(tmp_path / "redis") as found:
            yield found

    def test_works(
        self, courier: Courier, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"unix://:{server.password}@{server.data_dir}/redis.sock?db=3"
        delivers(courier, monkeypatch, COURIER_REDIS_URL=url)
        client = connect_patiently(load_settings())
        assert client.exists("courier:{default}:counts"), "in its database"
        client.close()

    def test_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        text = said(Settings(redis_url=f"unix://:hush@{tmp_path}/no.sock"))
        assert text.startswith(f"Redis at unix://{tmp_path}/no.sock does not answer (No such file")
        assert "hush" not in text


class TestTLS:
    @pytest.fixture
    def proxy(self, server: EmbeddedRedis, name: str) -> Iterator[Proxy]:
        """Before Redis: it shows a certificate, and asks for one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / f"{name}.pem", TLS / f"{name}.key")
        context.load_verify_locations(TLS / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        with Proxy(server.url, tls=context) as found:
            yield found

    @pytest.fixture
    def name(self) -> str:
        return "server"

    @pytest.fixture
    def url(self, proxy: Proxy) -> str:
        return proxy.url.replace("redis://", "rediss://")

    def test_with_a_private_ca_and_a_certificate_of_the_client(
        self, courier: Courier, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delivers(courier, monkeypatch, COURIER_REDIS_URL=url, **FILES)

    def test_without_the_ca_the_server_is_not_trusted(self, url: str) -> None:
        text = said(
            Settings(
                redis_url=url,
                redis_cert_file=FILES["COURIER_REDIS_CERT_FILE"],
                redis_key_file=FILES["COURIER_REDIS_KEY_FILE"],
            )
        )
        assert "cannot be talked to by TLS" in text
        assert "COURIER_REDIS_CA_FILE" in text

    def test_without_a_certificate_the_client_is_not_let_in(self, url: str) -> None:
        text = said(Settings(redis_url=url, redis_ca_file=FILES["COURIER_REDIS_CA_FILE"]))
        assert "COURIER_REDIS_CERT_FILE" in text or "does not answer" in text

    @pytest.mark.parametrize("name", ["stranger"])
    def test_a_certificate_of_another_name_is_not_trusted(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not by redis-py and not by Kombu, whatever their versions."""
        for variable, value in {"COURIER_REDIS_URL": url, **FILES}.items():
            monkeypatch.setenv(variable, value)
        settings = load_settings()
        assert "cannot be talked to by TLS" in said(settings)
        with pytest.raises(Exception, match=r"(?i)certificate"):
            round_trip_s(settings)
        unverified = replace(settings, redis_url=Secret(f"{url}?ssl_cert_reqs=none"))
        client = connect_briefly(unverified)
        assert client.ping()
        client.close()


class TestSentinels:
    @pytest.fixture
    def old(self, tmp_path: Path) -> Iterator[EmbeddedRedis]:
        with EmbeddedRedis(tmp_path / "old", password="of-redis") as found:
            yield found

    @pytest.fixture
    def new(self, tmp_path: Path) -> Iterator[EmbeddedRedis]:
        with EmbeddedRedis(tmp_path / "new", password="of-redis") as found:
            yield found

    @staticmethod
    def sentinel(home: Path, server: EmbeddedRedis, failovers: int) -> Sentinel:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        return Sentinel(home, port, others={f"sentinel config-epoch {MASTER}": str(failovers)})

    def test_that_missed_a_failover_lead_nobody_to_the_old_primary(
        self, tmp_path: Path, old: EmbeddedRedis, new: EmbeddedRedis
    ) -> None:
        """As after a machine came back that has both a Sentinel and the old primary."""
        with (
            self.sentinel(tmp_path / "a", old, 3) as late,
            self.sentinel(tmp_path / "b", new, 4) as right,
        ):
            for places in (
                f"{late.port},127.0.0.1:{right.port}",
                f"{right.port},127.0.0.1:{late.port}",
            ):
                settings = Settings(
                    redis_url=f"sentinel://:of-redis@127.0.0.1:1,127.0.0.1:{places}/{MASTER}",
                    sentinel_password=SENTINEL_PASSWORD,
                )
                client = connect_briefly(settings)
                client.set("written", "yes")
                client.close()
            for server, written in ((old, None), (new, b"yes")):
                with redis.Redis.from_url(server.url) as direct:
                    assert direct.get("written") == written

    def test_that_knew_more_before_are_all_asked(
        self, tmp_path: Path, old: EmbeddedRedis, new: EmbeddedRedis
    ) -> None:
        """One that came back late is not believed alone, while another one seems to be away."""
        with (
            self.sentinel(tmp_path / "a", old, 3) as late,
            self.sentinel(tmp_path / "b", new, 4) as right,
        ):
            places = f"127.0.0.1:{late.port},127.0.0.1:{right.port}"
            client = connect_briefly(
                Settings(
                    redis_url=f"sentinel://:of-redis@{places}/{MASTER}",
                    sentinel_password=SENTINEL_PASSWORD,
                )
            )
            sentinels = sentinels_of(client)
            assert sentinels is not None
            assert sentinels.primary() == ("127.0.0.1", port_of(new))
            sentinels._aside_until_s["127.0.0.1", right.port] = time.monotonic() + 60
            assert sentinels.primary() == ("127.0.0.1", port_of(new))
            right.process.kill()
            sentinels._aside_until_s["127.0.0.1", right.port] = time.monotonic() + 60
            assert sentinels.primary() == ("127.0.0.1", port_of(old)), "nobody knows better"
            client.close()

    def test_that_name_another_primary_end_all_connections_to_the_old_one(
        self, tmp_path: Path, old: EmbeddedRedis, new: EmbeddedRedis
    ) -> None:
        """The old one may live on, and take writes, which are lost."""
        ports = [port_of(server) for server in (old, new)]
        with self.sentinel(tmp_path / "a", old, 1) as sentinel:
            url = f"sentinel://:of-redis@127.0.0.1:{sentinel.port}/{MASTER}"
            client = connect_patiently(Settings(redis_url=url, sentinel_password=SENTINEL_PASSWORD))

            def lead_to(count: int) -> list[int]:
                """To which ports so many connections at once lead."""
                name = ("_",) if redis.VERSION < (5, 3) else ()  # which later ones warn of
                taken = [client.connection_pool.get_connection(*name) for _ in range(count)]
                for each in taken:
                    client.connection_pool.release(each)
                return [each.port for each in taken]

            assert lead_to(3) == [ports[0]] * 3
            sentinel.client.sentinel_remove(MASTER)
            sentinel.client.sentinel_monitor(MASTER, "127.0.0.1", ports[1], 1)
            assert lead_to(4)[3] == ports[1], "a new connection asks"
            assert lead_to(4) == [ports[1]] * 4
            client.close()

    def test_that_are_silent_cost_a_producer_its_own_time_and_no_more(self) -> None:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
        places = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in listeners)
        settings = Settings(redis_url=f"sentinel://{places}/main", enqueue_timeout_s=2)
        producer = Producer(settings)
        begin_s = time.monotonic()
        with pytest.raises(NotEnqueued, match="does not answer in time"):
            producer.add_attributes("ada@example.com", {"n": 1})
        # By themselves, eight of them would take half a second each, again and again.
        assert time.monotonic() - begin_s < 4
        producer.close()
        for each in listeners:
            each.close()

    def test_what_is_wrong_with_them_is_told(self, tmp_path: Path, old: EmbeddedRedis) -> None:
        with self.sentinel(tmp_path / "a", old, 1) as sentinel:

            def told(place: str, password: str | None) -> str:
                url = f"sentinel://:hush@{place}"
                return said(Settings(redis_url=url, sentinel_password=password))

            place = f"127.0.0.1:{sentinel.port}"
            assert "asks for a password: set COURIER_SENTINEL_PASSWORD" in told(
                f"{place}/main", None
            )
            assert "refuses COURIER_SENTINEL_PASSWORD" in told(f"{place}/main", "other")
            assert "knows no primary 'other'" in told(f"{place}/other", SENTINEL_PASSWORD)
            assert "does not answer (Connection refused)" in told("127.0.0.1:1/main", None)
            redis_itself = old.url.rpartition("@")[2].partition("/")[0]
            assert "is no Sentinel" in told(f"{redis_itself}/main", "of-redis")
            wrong = told(f"{place}/main", SENTINEL_PASSWORD)
            assert "refuses the login" in wrong
            old.kill()
            gone = told(f"{place}/main", SENTINEL_PASSWORD)
            assert f"is {redis_itself}, its Sentinels say: it does not answer" in gone
            assert "hush" not in wrong + gone

    def test_the_doctor_says_what_each_of_them_says(
        self, tmp_path: Path, new: EmbeddedRedis
    ) -> None:
        primary = new.url.rpartition("@")[2].partition("/")[0]
        with self.sentinel(tmp_path / "a", new, 1) as sentinel:
            place = f"127.0.0.1:{sentinel.port}"
            shown = f"sentinel://{place},127.0.0.1:1/{MASTER}/0"
            environ = {
                "COURIER_REDIS_URL": shown.replace("://", "://:of-redis@"),
                "COURIER_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
                "COURIER_WAIT_REPLICAS": "1",
                "CHARTMOGUL_API_URL": "http://127.0.0.1:1/v1",
                "CHARTMOGUL_API_KEY": "key",
            }
            result = CliRunner().invoke(main, ["doctor", "--format", "json"], env=environ)
            pinged = CliRunner().invoke(main, ["ping", "--format", "json"], env=environ)
        found = {
            each["what"]: each for each in json.loads(result.stdout) if each["part"] == "Redis"
        }
        assert found["sentinels"]["level"] == "warning"
        assert f"{place} names {primary} as the primary" in found["sentinels"]["found"]
        assert "127.0.0.1:1 does not answer (Connection refused)" in found["sentinels"]["found"]
        assert found["replicas"]["level"] == "error"
        waits = "waits for 1 (COURIER_WAIT_REPLICAS), and 0 are connected"
        assert waits in found["replicas"]["found"]
        assert f"Redis {shown}" in {each["what"] for each in json.loads(pinged.stdout)}
        assert "of-redis" not in result.output + pinged.output
        assert SENTINEL_PASSWORD not in result.output + pinged.output


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"COURIER_REDIS_CA_FILE": "/no/ca.pem"}, "/no/ca.pem does not exist"),
        ({"COURIER_REDIS_CA_FILE": "/"}, "/ cannot be read: Is a directory"),
        ({"COURIER_REDIS_CA_FILE": __file__}, "holds no certificates"),
        ({"COURIER_REDIS_KEY_FILE": "/no/key.pem"}, "/no/key.pem does not exist"),
        ({"COURIER_REDIS_KEY_FILE": ""}, "COURIER_REDIS_CERT_FILE: "),
        ({"COURIER_REDIS_KEY_FILE": f"{TLS}/server.key"}, "the key of another certificate"),
        ({"COURIER_REDIS_CERT_FILE": f"{TLS}/ca.pem"}, "the key of another certificate"),
        ({"COURIER_REDIS_CERT_FILE": __file__}, "must be in PEM form"),
        ({"COURIER_REDIS_CERT_FILE": ""}, "set COURIER_REDIS_CERT_FILE, too"),
        ({"COURIER_REDIS_URL": "redis://r"}, "COURIER_REDIS_URL must begin with rediss"),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], says: str
) -> None:
    for name, value in {"COURIER_REDIS_URL": "rediss://r", **FILES, **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert says in str(caught.value)


def test_a_key_that_everybody_can_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key.pem"
    key.write_text((TLS / "client.key").read_text())

    def load() -> None:
        Settings(redis_url="rediss://r", redis_cert_file=TLS / "client.pem", redis_key_file=key)

    key.chmod(0o600)
    load()
    assert not caplog.records
    open_one = tmp_path / "open.pem"
    key.rename(open_one)
    key = open_one
    key.chmod(0o644)
    load()
    load()
    assert [f"chmod 600 {key}" in each.getMessage() for each in caplog.records] == [True]

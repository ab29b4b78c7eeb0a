"""Proxies and certificates of the environment: those that cannot be used are named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from attribute_courier.config import SettingsError, load_settings
from attribute_courier.config.network import check_for_work, network_faults

SECRET = "hush"


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example:3128",
        "http://user:pass@proxy.example:3128/",
        "http://user:p%40ss%2F@proxy.example",
        "https://proxy.example",
        "HTTP://proxy.example:3128",
        "proxy.example:3128",
        "10.0.0.1:3128",
        "http://[::1]:3128",
        "",
        " ",
    ],
)
def test_a_proxy_that_can_be_used(url: str) -> None:
    assert network_faults({"HTTPS_PROXY": url, "https_proxy": url, "ALL_PROXY": url}) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("gopher://hush", "begins with http:// or https://"),
        ("ftp://u:hush@proxy", "begins with"),
        ("http://", "names no proxy's host"),
        ("http://:3128", "names no proxy's host"),
        ("http://u:hush@", "names no proxy's host"),
        ("http://proxy:port", "not a proxy's URL"),
        ("http://proxy:99999", "not a proxy's URL"),
        ("http://proxy:0", "no port"),
        ("http://u:12/hush@proxy:3128", "percent-encoded"),
        ("http://u:12#hush@proxy:3128", "percent-encoded"),
        ("http://u:hush/12@proxy:3128", "not a proxy's URL"),
        ("http://[proxy]:3128", "not a proxy's URL"),
        ("http://pro xy:3128", "not a proxy's URL"),
        ("socks5h://proxy:1080", "SOCKS proxies are not supported"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used(name: str, url: str, says: str) -> None:
    (fault,) = network_faults({name: url})
    assert fault.startswith(f"{name}: ")
    assert says in fault
    assert SECRET not in fault


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Certificates of authorities, as this machine knows them."""
    paths = ssl.get_default_verify_paths()
    for found in (paths.cafile, paths.openssl_cafile):
        if found and Path(found).exists():
            return Path(found)
    import certifi

    return Path(certifi.where())


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
class TestCertificates:
    def test_that_can_be_used(self, name: str, bundle: Path, tmp_path: Path) -> None:
        assert network_faults({name: str(bundle)}) == []
        assert network_faults({name: ""}) == []
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "ca.pem").write_bytes(bundle.read_bytes())
        faults = network_faults({name: str(folder)})
        assert faults == ([] if name != "SSL_CERT_FILE" else faults)

    def test_that_do_not_exist(self, name: str, tmp_path: Path) -> None:
        (fault,) = network_faults({name: str(tmp_path / "none.pem")})
        assert fault == f"{name}: {tmp_path / 'none.pem'} does not exist"

    @pytest.mark.parametrize("content", [b"", b"no certificate", b"\x00\xff", b"-----BEGIN"])
    def test_that_are_none(self, name: str, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "ca.pem"
        path.write_bytes(content)
        (fault,) = network_faults({name: str(path)})
        assert "PEM file" in fault

    def test_in_an_empty_folder(self, name: str, tmp_path: Path) -> None:
        (fault,) = network_faults({name: str(tmp_path)})
        assert "folder" in fault


def test_a_worker_needs_keys_and_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="set CHARTMOGUL_API_KEY"):
        check_for_work(load_settings())
    monkeypatch.setenv("CHARTMOGUL_API_KEY", "x")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    check_for_work(load_settings())
    monkeypatch.setenv("HTTPS_PROXY", "gopher://x")
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        check_for_work(load_settings())

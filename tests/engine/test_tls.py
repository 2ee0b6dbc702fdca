"""TLS: only a server whose certificate is trusted, and is for its host, is told anything."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import OpenStore
from tests.engine.test_failures import failure
from tests.engines import Server, engines

pytestmark = pytest.mark.skipif("redis" not in engines(), reason="Valkey from PyPI knows no TLS")


def _certificate(folder: Path, name: str, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    files = ["-out", str(certificate), "-keyout", str(key), "-addext", f"subjectAltName={host}"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Server]:
    with Server("redis", tls=_certificate(tmp_path, "server")) as server:
        yield server


def test_trusted_server(tls_server: Server, open_store: OpenStore, tmp_path: Path) -> None:
    """With the authority that signed it, a server counts, also after it was restarted."""
    store = open_store(f"{tls_server.url}?ssl_ca_certs={tmp_path}/server.pem")
    assert store.take("k").remaining == 4
    tls_server.kill()
    tls_server.start()
    assert store.take("k").remaining == 4
    assert store.name == tls_server.url


@pytest.mark.parametrize("authority", ["", "?ssl_ca_certs={folder}/other.pem"], ids=["the-machine's", "another"])
def test_server_that_is_not_trusted(tls_server: Server, open_store: OpenStore, tmp_path: Path, authority: str) -> None:
    """A certificate without a trusted issuer is an error that names it, and nothing is taken."""
    _certificate(tmp_path, "other")
    store = open_store(tls_server.url + authority.format(folder=tmp_path))
    assert "certificate verify failed" in failure(lambda: store.take("k")).reason
    assert open_store(f"{tls_server.url}?ssl_ca_certs={tmp_path}/server.pem").get("k") == (0, 0)


def test_certificate_of_another_host(open_store: OpenStore, tmp_path: Path) -> None:
    """A trusted certificate of another host is refused."""
    with Server("redis", tls=_certificate(tmp_path, "server")) as server:
        certificate, key = _certificate(tmp_path, "foreign", "DNS:elsewhere.example")
        with server.client() as client:
            client.config_set("tls-cert-file", str(certificate), "tls-key-file", str(key))
        store = open_store(f"{server.url}?ssl_ca_certs={certificate}")
        assert "certificate verify failed" in failure(lambda: store.take("k")).reason


def test_authority_that_is_not_there(tls_server: Server, open_store: OpenStore, tmp_path: Path) -> None:
    """A file that is missing is named."""
    store = open_store(f"{tls_server.url}?ssl_ca_certs={tmp_path}/none.pem")
    assert "No such file" in failure(lambda: store.take("k")).reason


def test_one_side_without_tls(tls_server: Server, server: Server, open_store: OpenStore, tmp_path: Path) -> None:
    """A server that speaks TLS to a store that does not, or the other way round, is an error within the timeout."""
    failure(lambda: open_store(tls_server.url.replace("rediss", "redis")).take("k"))
    url = server.url.replace("redis", "rediss")
    failure(lambda: open_store(f"{url}?ssl_ca_certs={tmp_path}/server.pem").take("k"))

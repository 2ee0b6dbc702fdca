"""The probe of a server: whether it lets a store in, and runs its scripts."""

from __future__ import annotations

import secrets
from functools import partial

from shm_store.errors import ConfigurationError, EngineError
from shm_store.redis import answers, scripts
from shm_store.redis.names import Names
from shm_store.redis.scripts import Call
from shm_store.redis.server import refusals
from shm_store.redis.server.engine import Engine


def check(engine: Engine, prefix: str) -> None:
    """Run one probe of the names that begin with `prefix`; see `RedisStore.check_server`."""
    try:
        refused = _refused(engine, Names(prefix))
    except EngineError as error:
        if refusals.is_configured_wrong(error.__cause__):
            raise ConfigurationError("url", engine.name, f"{error.reason}; {error.remedy}") from error
        raise
    denied = [(command, words) for command, words in refused if refusals.is_denied(words)]
    if denied:
        remedy = engine.account.grant(denied)
        raise ConfigurationError("url", engine.name, f"the user may not run the scripts' commands; {remedy}")
    if refused:
        command, words = refused[0]
        raise EngineError(engine.name, command, words, refusals.ANSWER)


def _refused(engine: Engine, names: Names) -> list[tuple[str, str]]:
    """Return the commands that the server, or any node of a cluster, refuses to run in scripts, with its words."""
    tag = secrets.token_hex(6)

    def call(number: int, *, by_text: bool) -> Call:
        key = f"probe-{tag}-{number}"
        used = (*names.all(key), names.leased(key)[1])
        plain = Call(scripts.PROBE, used, (), answers.refused)
        return Call(scripts.PROBE, used, (), answers.refused, plain.packed(by_text=by_text))

    # By its text first: a server that knows the script already would not need that permission today.
    return [
        each
        for by_text in (True, False)
        for found in engine.run_on_all(partial(call, by_text=by_text))
        for each in found
    ]

"""Refusals: the words of a server that does not run a script, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import redis

from shm_store.core.quoting import excerpt
from shm_store.redis.answers import NoAnswerError

#: The remedy for an error that may be about one key alone.
ANSWER: Final = "see what the server says, and whether it is Redis >= 6.2 or Valkey >= 7.2"
#: The remedy where no server answers.
ABSENT: Final = "see whether the server runs and can be reached"
_PERMISSION: Final = "grant the user what RedisStore.check_server() names"
# What Redis before 7.0 puts before what a command within a script has said.
_WITHIN: Final = re.compile(r"Error running script \(call to f_[0-9a-f]+\): (?:@user_script:\s?\d+: )+-?")
# What redis-py puts before the reason that it cannot connect; the message of the error names the address already.
_CONNECTING: Final = re.compile(r"Error -?\d+ connecting to \S+ (?=\S)")
_COMMAND: Final = re.compile(r"'([a-z]+(?:\|[a-z]+)?)' command")
_KEY: Final = re.compile(r"access (?:a key|the '.*' key|(?:at least )?one of the keys)")
_READONLY: Final = "give the address of the primary, or let Sentinel find it"
_MEMORY: Final = "raise the server's maxmemory, or set maxmemory-policy to volatile-ttl"
_SINGLE: Final = "This instance has cluster support disabled"
_ACL: Final = ("ACL failure in script", "The user executing the script can't")
# What servers say that redis-py does not tell from other errors: of a command within a script, and of themselves.
_SAID: Final = {
    "READONLY": _READONLY,
    "OOM": _MEMORY,
    "NOREPLICAS": "see why its replicas have left it, or lower min-replicas-to-write",
    "MISCONF": "see why it cannot write its snapshots, or let it write none: set save to nothing",
    _SINGLE: "name a single server as redis://HOST:PORT",
    "BUSY": "end the script that it is busy with, by SCRIPT KILL",
}
_ADDRESS: Final = "see whether the address is that of Redis >= 6.2 or Valkey >= 7.2, and what stands before it"
_REMEDIES: Final = (
    (redis.AuthenticationError, "check the user and the password in the URL"),
    (redis.exceptions.ReadOnlyError, _READONLY),
    (redis.exceptions.OutOfMemoryError, _MEMORY),
    (redis.exceptions.ClusterCrossSlotError, "take together only keys that share a hash tag"),
    (redis.exceptions.AskError, "name the nodes of a cluster as redis+cluster://HOST:PORT,HOST:PORT"),
    (redis.exceptions.ClusterDownError, "see whether the cluster has a primary for each of its slots"),
    (NoAnswerError, _ADDRESS),
    (redis.exceptions.InvalidResponse, _ADDRESS),
    (redis.TimeoutError, "see whether the server is stopped or overloaded, or raise the timeout"),
    # The last of those that are one.
    (redis.ResponseError, ANSWER),
)


class Account:
    """The user of the server, and the permissions that an administrator must grant it."""

    def __init__(self, user: str, prefix: str) -> None:
        self._user = user
        self._prefix = prefix

    def remedy(self, error: Exception) -> str:
        """Return what to do about an error."""
        if _is_permission(error):
            return self.grant([("", _words(error))])
        if isinstance(error, redis.ResponseError):
            words = _words(error)
            for begin, remedy in _SAID.items():
                if words.startswith(begin):
                    return remedy
        return next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), ABSENT)

    def grant(self, refused: Iterable[tuple[str, str]]) -> str:
        """Return what permits commands, each of which comes with the words of the server that refused it."""
        rules = dict.fromkeys(rule for command, words in refused if (rule := self._rule(command, words)))
        return f"grant it: ACL SETUSER {self._user} {' '.join(rules)}" if rules else _PERMISSION

    def _rule(self, command: str, words: str) -> str:
        if _KEY.search(words):
            return f"~{self._prefix}*"
        named = _COMMAND.search(words)
        command = named[1] if named else command.lower()
        return command and f"+{command}"


def said(error: Exception) -> str:
    """Return the reason that an error gives, for a message; see `excerpt`."""
    return excerpt(_CONNECTING.sub("", _words(error)))


def is_denied(words: str) -> bool:
    """Return whether a server's words about a command within a script are about a permission."""
    return bool(_KEY.search(words)) or any(begin in words for begin in (*_ACL, "NOPERM", "has no permissions"))


def is_configured_wrong(error: BaseException | None) -> bool:
    """Return whether a server would say the same again until a person changes the address or a permission."""
    if not isinstance(error, redis.RedisError):
        return False
    kinds = (redis.AuthenticationError, redis.exceptions.AskError)
    return isinstance(error, kinds) or _is_permission(error) or _words(error).startswith(_SINGLE)


def _is_permission(error: Exception) -> bool:
    # redis-py takes the code off the words of the first.
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and is_denied(_words(error))
    )


def _words(error: Exception) -> str:
    """Return the first line of an error's text, without the words that older servers put before it."""
    text = str(error) or type(error).__name__
    return _WITHIN.sub("", text.splitlines()[0]).rstrip(".")

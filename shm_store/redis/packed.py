"""Packed takes: the command that takes from one bucket, made in a third of the time that `Call.packed` takes."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

import msgspec

from shm_store.errors import CostTypeError
from shm_store.quota import Concurrency, Quota
from shm_store.redis import answers, scripts
from shm_store.redis.scripts import Call, Script, bulk
from shm_store.redis.terms import LIMIT_MAX, terms_of

# Quotas whose arguments are remembered; all are dropped when there would be more.
_REMEMBERED: Final = 1_024
_encode: Final = msgspec.msgpack.Encoder().encode
# A tag has 12 digits.
_TAKE: Final = b"%b$%d\r\n%b\r\n%b$%d\r\n%d\r\n$12\r\n%b\r\n$%d\r\n%b\r\n"


class PackedQuota(NamedTuple):
    """The command that takes by one quota.

    Attributes:
        script: The script.
        arguments: The quota, as the script reads it.
        head: What its command begins with.
        told: The arguments, as the command has them.
    """

    script: Script
    arguments: bytes
    head: bytes
    told: bytes


class Packed:
    """The commands of one store, by quota; see `terms_of` for quotas that the server cannot count by."""

    def __init__(self, min_ttl: int) -> None:
        """Begin with none; buckets are kept for `min_ttl` microseconds at least."""
        self._min_ttl = min_ttl
        self._quotas: dict[Quota, PackedQuota] = {}

    def quota(self, quota: Quota) -> PackedQuota:
        """Return what takes by a quota, and what it is told of it."""
        packed = self._quotas.get(quota)
        if packed is None:
            arguments = b"".join(map(_encode, (*terms_of(quota), self._min_ttl)))
            script = scripts.TAKE[quota.algorithm]
            if len(self._quotas) >= _REMEMBERED:
                self._quotas.clear()
            packed = self._quotas[quota] = PackedQuota(script, arguments, script.head(1, 4), bulk(arguments))
        return packed

    def take(self, name: bytes, quota: Quota, cost: int, tag: bytes, told: bytes) -> Call:
        """Return a take from the bucket `name`, which gets the tag if it is new; `told` is the time."""
        script, arguments, head, quota_told = self.quota(quota)
        units = b"%d" % cost
        packed = _TAKE % (head, len(name), name, quota_told, len(units), cost, tag, len(told), told)
        return Call(script, (name,), (arguments, units, tag, told), answers.told, packed)


def units_of(cost: object, quota: Quota | Concurrency, index: int = 0) -> int:
    """Return a cost for scripts: 0 if it is out of range. No server needs to be asked about one that is no integer."""
    if type(cost) is not int:
        raise CostTypeError(cost, quota.limit if isinstance(quota, Concurrency) else quota.most, index)
    return cost if 1 <= cost <= LIMIT_MAX else 0


def new_tag() -> bytes:
    """Return what tells a bucket, or a call, from all others."""
    # Not of `random`: an application may seed that alike in every process.
    return b"%012x" % secrets.randbits(48)

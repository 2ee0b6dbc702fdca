"""Commands: what a store asks of the server, as its scripts read it, and what they answer.

Arguments and answers are MessagePack, which the server's Lua reads and writes by itself. Times are whole microseconds.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from redis.crc import key_slot

from shm_store.core.algorithms import BY_CODE
from shm_store.core.validation import CheckedTake, not_a_quota
from shm_store.errors import ConfigurationError, CostError, CostTypeError
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.redis import answers, scripts
from shm_store.redis.config import RedisConfig
from shm_store.redis.engine import Engine
from shm_store.redis.leases import Issue, Order
from shm_store.redis.names import Names
from shm_store.redis.scripts import Call, Script, bulk
from shm_store.redis.terms import LIMIT_MAX, NS_PER_US, terms_of

# Quotas whose arguments are remembered; all are dropped when there would be more.
_REMEMBERED: Final = 1_024
_encode: Final = msgspec.msgpack.Encoder().encode

# The command of a take: as `Call.packed` would make it, in a third of the time. A tag has 12 digits.
_TAKE: Final = b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$12\r\n%b\r\n$%d\r\n%b\r\n"


class _Asked(NamedTuple):
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


class Taken(NamedTuple):
    """What became of one take of a reservation.

    Attributes:
        take: The take.
        info: The answer.
        is_taken: Whether the units were taken.
        tag: The bucket's tag; of units in flight, what they are called in their set.
        state: The bucket's state after the take.
    """

    take: CheckedTake
    info: RateInfo
    is_taken: bool
    tag: str
    state: tuple[int, ...]

    @property
    def is_flight(self) -> bool:
        """Whether it is in flight."""
        return isinstance(self.take.quota, Concurrency)


class Commands:
    """Runs scripts for one store.

    Raises:
        EngineError: By everything that runs one: the server did not answer, or refused.
        ConfigurationError: By everything with a quota: it is none, or the server cannot count by it.
    """

    def __init__(self, engine: Engine, config: RedisConfig, clock: Callable[[], int] | None) -> None:
        """Run them on `engine`, by the server's clock if there is no other."""
        self._engine = engine
        self._clock = clock
        self._names = Names(config.prefix)
        self._min_ttl = round(config.seconds("min_ttl") * 1e6)
        self._in_flight_ttl = round(config.seconds("in_flight_ttl") * 1e6)
        self._asked: dict[Quota, _Asked] = {}

    def check(self, quota: object) -> None:
        """Raise ConfigurationError unless the server can count by a quota."""
        self._ask(quota)

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in a group for each slot of a cluster; in one group on a single server."""
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(keys):
            slot = key_slot(self._names.bucket(key)) if self._engine.is_cluster else 0
            groups.setdefault(slot, []).append(position)
        return [*groups.values()]

    def probe(self) -> list[tuple[str, str]]:
        """Return the commands that the server, or any node of a cluster, refuses to run in scripts, with its words."""
        tag = _new_tag().decode()

        def call(number: int, *, by_text: bool) -> Call:
            key = f"probe-{tag}-{number}"
            names = (*self._names.all(key), self._names.leased(key)[1])
            plain = Call(scripts.PROBE, names, (), answers.refused)
            return Call(scripts.PROBE, names, (), answers.refused, plain.packed(by_text=by_text))

        # By its text first: a server that knows the script already would not need that permission today.
        return [
            each
            for by_text in (True, False)
            for found in self._engine.run_on_all(partial(call, by_text=by_text))
            for each in found
        ]

    def take(self, key: str, cost: object, quota: Quota) -> RateInfo:
        """Take from one bucket.

        Raises:
            CostError: The cost is no integer from 1 to the most units of the bucket.
        """
        asked = self._ask(quota)
        name, units, tag, told = self._names.bucket(key), b"%d" % _units(cost, quota), _new_tag(), self._told()
        packed = _TAKE % (asked.head, len(name), name, asked.told, len(units), units, tag, len(told), told)
        arguments = (asked.arguments, units, tag, told)
        answer = self._engine.run(Call(asked.script, (name,), arguments, answers.told, packed))
        if answer[0] == "cost":
            raise CostError(cost, answer[2])
        return _info(answer)

    def take_all(self, takes: Sequence[CheckedTake], *, is_peek: bool = False) -> list[RateInfo]:
        """Take from all buckets or from none; or return the answers and take nothing.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
        """
        return [_info(answer) for answer in self._run(takes, _new_tag(), is_peek=is_peek)]

    def reserve(self, takes: Sequence[CheckedTake]) -> list[Taken]:
        """Take from all buckets or from none, and return what a refund needs.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
        """
        call = _new_tag()
        outcome = []
        for position, (take, reserved) in enumerate(
            zip(takes, self._run(takes, call, is_reserved=True), strict=True), 1
        ):
            answer, is_taken, tag, *state = reserved
            if isinstance(take.quota, Concurrency):
                tag = f"{call.decode()}-{position}:{take.cost}"
            outcome.append(Taken(take, _info(answer), is_taken, tag, tuple(state)))
        return outcome

    def settle(self, takens: Sequence[tuple[Taken, int]]) -> None:
        """Return those units of takes that their buckets still miss, and take more where they are below zero.

        A failed call is not repeated: it may have returned the units already.
        """
        names: list[bytes] = []
        parts = []
        for taken, units in takens:
            parts.append((len(names) + 1, taken.is_flight, units, taken.tag, *taken.state))
            names += self._names.flight(taken.take.key) if taken.is_flight else (self._names.bucket(taken.take.key),)
        arguments = _encode(parts), self._settings(_new_tag())
        self._engine.run(Call(scripts.SETTLE, names, arguments, answers.done), again=False)

    def renew(self, key: str, tags: Sequence[str]) -> None:
        """Say that units of a key are still in flight."""
        arguments = _encode(tags), b"%d" % self._in_flight_ttl
        self._engine.run(Call(scripts.RENEW, self._names.flight(key), arguments, answers.done))

    def lease(self, key: str, quota: Quota, order: Order) -> Issue:
        """Have units issued to a host.

        Raises:
            CostError: As by `take`.
        """
        settings = _encode((_new_tag().decode(), int(self._told()), *order))
        arguments = self._ask(quota).arguments, settings
        answer = self._engine.run(Call(scripts.LEASE, self._names.leased(key), arguments, answers.issued))
        if answer[0] == "cost":
            raise CostError(order.cost, answer[2])
        *told, units, code, interval = answer
        return Issue(_info(told), units, BY_CODE[code], interval * NS_PER_US)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of a key; (0, 0) if there is nothing."""
        found: tuple[int, int] = self._engine.run(Call(scripts.GET, self._names.all(key), self._times(), answers.pair))
        return found

    def set(self, key: str, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override; return whether it changed anything."""
        arguments = self._ask(quota).arguments, _new_tag(), self._told(), b"%d" % keep_spent
        is_changed: bool = self._engine.run(Call(scripts.SET, (self._names.bucket(key),), arguments, answers.whether))
        return is_changed

    def reset(self, key: str) -> bool:
        """Forget a key; return whether there was anything."""
        was_held: bool = self._engine.run(Call(scripts.RESET, self._names.all(key), self._times(), answers.whether))
        return was_held

    def _run(
        self, takes: Sequence[CheckedTake], tag: bytes, *, is_peek: bool = False, is_reserved: bool = False
    ) -> list[Any]:
        keys = [take.key for take in takes]
        if len(keys) > 1 and len(self.partition(keys)) > 1:
            raise ConfigurationError("takes", keys, "in a cluster, take together only the keys of one client")
        positions: dict[bytes, int] = {}
        names: list[bytes] = []
        told = []
        for index, take in enumerate(takes):
            is_flight = isinstance(take.quota, Concurrency)
            own = self._names.flight(take.key) if is_flight else (self._names.bucket(take.key),)
            if own[0] not in positions:
                positions[own[0]] = len(names) + 1
                names += own
            told.append(
                (positions[own[0]], is_flight, *terms_of(take.quota), _units(take.cost, take.quota, index), take.shadow)
            )
        settings = self._settings(tag, is_peek=is_peek, is_reserved=is_reserved)
        read = partial(answers.all_reserved if is_reserved else answers.all_told, count=len(takes))
        answer = self._engine.run(Call(scripts.TAKE_ALL, names, (_encode(told), settings), read))
        if not isinstance(answer, list):
            index = answer[1] - 1
            raise CostError(takes[index].cost, answer[2], index)
        return answer

    def _settings(self, tag: bytes, *, is_peek: bool = False, is_reserved: bool = False) -> bytes:
        return _encode((tag.decode(), int(self._told()), self._min_ttl, self._in_flight_ttl, is_peek, is_reserved))

    def _times(self) -> tuple[bytes, bytes, bytes]:
        return self._told(), b"%d" % self._min_ttl, b"%d" % self._in_flight_ttl

    def _told(self) -> bytes:
        """Return the time that scripts are to go by; 0 for the server's own."""
        return b"0" if self._clock is None else b"%d" % (self._clock() // NS_PER_US)

    def _ask(self, quota: object) -> _Asked:
        """Return what takes by a quota, and what it is told of it."""
        if not isinstance(quota, Quota):
            raise not_a_quota("quota", quota)
        asked = self._asked.get(quota)
        if asked is None:
            arguments = b"".join(map(_encode, (*terms_of(quota), self._min_ttl)))
            script = scripts.TAKE[quota.algorithm]
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            asked = self._asked[quota] = _Asked(script, arguments, script.head(1, 4), bulk(arguments))
        return asked


def _units(cost: object, quota: Quota | Concurrency, index: int = 0) -> int:
    """Return a cost as scripts take it, which know how many units a bucket has: 0 if it is out of range.

    Raises:
        CostTypeError: It is no integer. No server needs to be asked for that.
    """
    if type(cost) is not int:
        raise CostTypeError(cost, quota.limit if isinstance(quota, Concurrency) else quota.most, index)
    return cost if 1 <= cost <= LIMIT_MAX else 0


def _new_tag() -> bytes:
    # Not of `random`: an application may seed that alike in every process.
    return b"%012x" % secrets.randbits(48)


def _info(answer: Sequence[Any]) -> RateInfo:
    allowed, limit, remaining, reset_after, retry_after = answer
    return RateInfo(allowed, limit, remaining, reset_after * NS_PER_US, retry_after * NS_PER_US)

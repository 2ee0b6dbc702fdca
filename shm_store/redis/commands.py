"""Commands: the server as the back end of a store; the calls of its scripts, and their answers.

Arguments and answers are MessagePack, which the server's Lua reads and writes by itself. Times are whole microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Final

import msgspec

from shm_store.core.algorithms import BY_CODE
from shm_store.core.backend import Decided, Part, Take
from shm_store.core.issuing import Issue, Order
from shm_store.errors import ConfigurationError, CostError
from shm_store.process import forks
from shm_store.quota import INTERVAL_MAX_NS, Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.redis import answers, scripts
from shm_store.redis.config import RedisConfig
from shm_store.redis.in_flight import Heartbeat, renew
from shm_store.redis.names import Names
from shm_store.redis.packed import Packed, new_tag, units_of
from shm_store.redis.scripts import Call
from shm_store.redis.server.engine import Engine
from shm_store.redis.terms import LIMIT_MAX, NS_PER_US, terms_of

# A process renews its units in flight as often within the time for which they count.
_RENEWALS: Final = 3
_encode: Final = msgspec.msgpack.Encoder().encode


class Receipt(Decided):
    """The record of one take that a settlement needs.

    Attributes:
        tag: The bucket's tag; of units in flight, what they are called in their set.
        state: The bucket's state after the take.
        is_settled: Whether the server was told, or may have been: units that come back twice would be there twice.
    """

    tag: str
    state: Sequence[int]
    is_settled: bool = False


class Commands:
    """Keeps the buckets of a store on a server; implements `Backend`. See there for the attributes.

    Raises:
        EngineError: By everything that runs a script: the server did not answer, or refused.
        ConfigurationError: By everything with a quota: the server cannot count by it.
        CostError: By everything that takes: the cost is no integer from 1 to the most units of the bucket.
    """

    keys: tuple[type, ...] = (str,)
    is_remote = True

    def __init__(self, engine: Engine, config: RedisConfig, clock: Callable[[], int] | None) -> None:
        """Keep them on `engine`, by the server's clock if there is no other."""
        self.name = engine.name
        self.quota = config.quota
        self.realm = f"{engine.name} {engine.database} {config.prefix}"
        self.is_split = engine.is_cluster
        self._engine = engine
        self._clock = clock
        self._names = Names(config.prefix)
        self._min_ttl = round(config.seconds("min_ttl") * 1e6)
        self._in_flight_ttl = round(config.seconds("in_flight_ttl") * 1e6)
        # Not a method: a reference back would be a cycle.
        told = partial(renew, engine, self._names, self._in_flight_ttl)
        self._heartbeat = Heartbeat(told, config.seconds("in_flight_ttl") / _RENEWALS)
        self._packed = Packed(self._min_ttl)
        self.pid = forks.own_pid
        forks.register(self)

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError unless the server can count by a limit; contact no server."""
        terms_of(limit)

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in a group for each slot of a cluster; in one group on a single server."""
        return self._names.by_slot(keys) if self.is_split else [[*range(len(keys))]]

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        """Take from all buckets or from none."""
        quota = takes[0].quota
        if len(takes) == 1 and not takes[0].shadow and isinstance(quota, Quota):
            return [self._take(takes[0].key, takes[0].cost, quota)]
        return [answers.info(answer) for answer in self._run(takes, new_tag())]

    def peek(self, take: Take) -> RateInfo:
        """Answer what a take would answer, and change nothing."""
        return answers.info(self._run([take], new_tag(), is_peek=True)[0])

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        """Take from all buckets or from none, and return what a settlement needs; renew what is in flight."""
        call = new_tag()
        answers_to = zip(takes, self._run(takes, call, is_reserved=True), strict=True)
        decided: list[Decided] = []
        for position, (take, (answer, is_taken, tag, *state)) in enumerate(answers_to, 1):
            if isinstance(take.quota, Concurrency):
                tag = f"{call.decode()}-{position}:{take.cost}"  # noqa: PLW2901 - the server has none for it
                if is_taken:
                    self._heartbeat.add(tag, take.key)
            decided.append(Receipt(take, answers.info(answer), is_taken, tag, state))
        return decided

    def book(self, take: Take, patience_ns: int) -> Decided:
        """Do the same with one take, which may come due later."""
        patience = min(patience_ns, INTERVAL_MAX_NS) // NS_PER_US
        ((answer, is_taken, tag, *state),) = self._run([take], new_tag(), is_reserved=True, patience=patience)
        return Receipt(take, answers.info(answer), is_taken, tag, state)

    def settle(self, parts: Sequence[Part]) -> None:
        """Return units that their buckets still miss, and charge more where they are below zero; see `Settler.settle`.

        A failed call is not repeated: it may have returned the units already.
        """
        names: list[bytes] = []
        told = []
        receipts = []
        for decided, units, debt in parts:
            receipt = _receipt(decided)
            is_flight = isinstance(receipt.take.quota, Concurrency)
            if is_flight:
                self._heartbeat.discard(receipt.tag)
            if not receipt.is_settled:
                receipt.is_settled = True
                part = len(names) + 1, is_flight, max(units, -LIMIT_MAX), debt
                told.append((*part, *terms_of(receipt.take.quota), receipt.tag, receipt.state))
                names += self._own(receipt.take)
                # What the server cannot count was not there either.
                receipt.short = max(-units - LIMIT_MAX, 0)
                receipts.append(receipt)
        if told:
            arguments = _encode(told), self._settings(new_tag())
            read = partial(answers.shorts, count=len(told))
            shorts = self._engine.run(Call(scripts.SETTLE, names, arguments, read), again=False)
            for receipt, short in zip(receipts, shorts, strict=True):
                receipt.short += short

    def abandon(self, parts: Sequence[Part], caller: FrameType) -> bool:  # noqa: ARG002 - of the protocol
        """Return False: no garbage collector waits for a server. From now on what is in flight would end by itself."""
        for decided, _, _ in parts:
            self._heartbeat.discard(_receipt(decided).tag)
        return False

    def lease(self, key: str, quota: Quota, order: Order) -> Issue:
        """Have units issued to a host."""
        settings = _encode((new_tag().decode(), int(self._told()), *order))
        arguments = self._packed.quota(quota).arguments, settings
        answer = self._engine.run(Call(scripts.LEASE, self._names.leased(key), arguments, answers.issued))
        if answer[0] == "cost":
            raise CostError(order.cost, answer[2])
        *told, units, code, interval = answer
        return Issue(answers.info(told), units, BY_CODE[code], interval * NS_PER_US)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of a key; (0, 0) if there is nothing."""
        found: tuple[int, int] = self._engine.run(Call(scripts.GET, self._names.all(key), self._times(), answers.pair))
        return found

    def set(self, key: str, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override; return whether it changed anything."""
        arguments = self._packed.quota(quota).arguments, new_tag(), self._told(), b"%d" % keep_spent
        is_changed: bool = self._engine.run(Call(scripts.SET, (self._names.bucket(key),), arguments, answers.whether))
        return is_changed

    def reset(self, key: str) -> bool:
        """Forget a key; return whether there was anything."""
        existed: bool = self._engine.run(Call(scripts.RESET, self._names.all(key), self._times(), answers.whether))
        return existed

    def after_fork(self) -> None:
        """Leave to the parent what it has in flight."""
        self._heartbeat.after_fork()

    def close(self) -> None:
        """Renew nothing any more, and close the connections."""
        forks.catch_up()
        self._heartbeat.close()
        self._engine.close()

    def _take(self, key: str, cost: int, quota: Quota) -> RateInfo:
        units = units_of(cost, quota)
        answer = self._engine.run(self._packed.take(self._names.bucket(key), quota, units, new_tag(), self._told()))
        if answer[0] == "cost":
            raise CostError(cost, answer[2])
        return answers.info(answer)

    def _run(
        self,
        takes: Sequence[Take],
        tag: bytes,
        *,
        is_peek: bool = False,
        is_reserved: bool = False,
        patience: int | None = None,
    ) -> list[Any]:
        keys = [take.key for take in takes]
        if len(keys) > 1 and len(self.partition(keys)) > 1:
            raise ConfigurationError("takes", keys, "in a cluster, take together only the keys of one client")
        positions: dict[bytes, int] = {}
        names: list[bytes] = []
        told = []
        for index, take in enumerate(takes):
            own, is_flight = self._own(take), isinstance(take.quota, Concurrency)
            if own[0] not in positions:
                positions[own[0]] = len(names) + 1
                names += own
            told.append(
                (
                    positions[own[0]],
                    is_flight,
                    *terms_of(take.quota),
                    units_of(take.cost, take.quota, index),
                    take.shadow,
                )
            )
        settings = self._settings(tag, is_peek, is_reserved, patience)
        read = partial(answers.all_reserved if is_reserved else answers.all_told, count=len(takes))
        answer = self._engine.run(Call(scripts.TAKE_ALL, names, (_encode(told), settings), read))
        if not isinstance(answer, list):
            index = answer[1] - 1
            raise CostError(takes[index].cost, answer[2], index)
        return answer

    def _own(self, take: Take) -> tuple[bytes, ...]:
        """Return the names of what a take takes from."""
        return self._names.flight(take.key) if isinstance(take.quota, Concurrency) else (self._names.bucket(take.key),)

    def _settings(self, tag: bytes, *more: int | None) -> bytes:
        return _encode((tag.decode(), int(self._told()), self._min_ttl, self._in_flight_ttl, *more))

    def _times(self) -> tuple[bytes, bytes, bytes]:
        return self._told(), b"%d" % self._min_ttl, b"%d" % self._in_flight_ttl

    def _told(self) -> bytes:
        """Return the time that scripts are to go by; 0 for the server's own."""
        return b"0" if self._clock is None else b"%d" % (self._clock() // NS_PER_US)


def _receipt(decided: Decided) -> Receipt:
    assert isinstance(decided, Receipt)
    return decided

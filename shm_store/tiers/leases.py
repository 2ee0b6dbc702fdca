"""LeaseStore: each host is issued units ahead by the server, and spends them at the speed of shared memory."""

from __future__ import annotations

import atexit
import contextlib
import secrets
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from shm_store.core.backend import Backend
from shm_store.core.issuing import Issue, Order
from shm_store.core.limiter import TakeCall
from shm_store.core.validation import require_clock, require_instance, take_of
from shm_store.durations import NS_PER_SECOND, Duration
from shm_store.errors import EngineError, StoreError
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.store import ShmStore
from shm_store.table.leases import DENIAL, UNITS, Deposit, Lease, Pending
from shm_store.table.takes.known import is_short
from shm_store.tiers.bookkeeping import BookkeepingStore
from shm_store.tiers.config import LeaseConfig
from shm_store.tiers.server import Server

#: A lease lasts for this part of the interval at most.
_PART: Final = 10
# Leases that this process knows to hand back; the oldest are left to end by themselves.
_DEPOSITS_MAX: Final = 8_192
# How long handing back may take.
_CLOSING_S: Final = 1.0
# Beyond the server's timeout, until others do not wait for a process that has asked.
_GRACE_NS: Final = NS_PER_SECOND


class LeaseStore(BookkeepingStore):
    """A store on Redis or Valkey that issues units to this host in batches; implements `RateLimiter`.

    The table decides on a take of a key as long as the host has units of it, or the server has denied it any. The
    process that finds none left asks the server for more, for all processes of the host. Other processes ask for
    themselves alone until the server has answered. The server decides everything but `take` and the `acquire` of one
    key; issued units count as spent there.

    Only issued units are spent, and none is issued twice. With `token-bucket` and `fixed-window`, units are spent in
    the window that they were issued in; with the others, at most `hosts` batches are not. At most `hosts - 1` batches
    lie with hosts that do not need them. After the end of such a lease, the next take of the key there returns them, or
    a later take that gets units of another key. See docs/distributed.md.

    A change of a limit by `set` or `reset` takes effect at once on this host. On others it does when their leases end,
    or after half of the wait that a denial promised. A take with another quota takes effect at once everywhere.

    Args:
        shared: The store on the server.
        table: The table.
        config: How units are issued.
        otherwise: What decides where no lease does; `shared` if None.
        clock: Returns nanoseconds, as the table's.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    take: TakeCall

    def __init__(
        self,
        shared: Server,
        table: ShmStore,
        config: LeaseConfig,
        *,
        otherwise: BookkeepingStore | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if otherwise is None:
            otherwise = BookkeepingStore(shared, table)
        remedy = "give a store of both tiers, for example FallbackStore(shared, table, hosts=2)"
        self._otherwise: Final = require_instance("otherwise", otherwise, BookkeepingStore, remedy)
        super().__init__(shared, table)
        self._config = require_instance("config", config, LeaseConfig, "give a LeaseConfig, e.g. LeaseConfig(hosts=2)")
        self._clock = require_clock(clock)
        self._patience_ns = shared.timeout_ns + _GRACE_NS
        self._lifetime_ns = config.lifetime_ns
        # Whatever process of the host asks, it asks for the host.
        self._host = table.digest("host")
        self._deposits: dict[tuple[str, Quota], Deposit] = {}
        self._leasing = table.leasing(self._ask, self.realm, self.quota)
        self.take = self._leasing.take
        forks.register(self)
        _stores.add(self)

    def set(self, key: str, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override on the server; leases of other hosts last until they end.

        The same override again, with `keep_spent`, ends no lease.
        """
        changed = super().set(key, limit, interval, keep_spent=keep_spent)
        if changed:
            self._leasing.forget(key)
        return changed

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override, on the server; leases of other hosts last until they end."""
        existed = super().reset(key)
        self._leasing.forget(key)
        return existed

    def close(self) -> None:
        """Hand back the unspent units of this process, and let go of the server and the table.

        May be called again.
        """
        if self._settlements.is_closed:
            return
        forks.catch_up()
        self._settlements.close()
        self._hand_back()
        self._leasing.close()
        self._otherwise.close()

    def _opening(self) -> partial[Any]:
        return partial(
            type(self), self._shared, self._table, self._config, otherwise=self._otherwise, clock=self._clock
        )

    def _deciding(self) -> Backend[str]:
        return self._otherwise.backend

    def after_fork(self) -> None:
        """Leave to the parent what it was issued."""
        self._deposits = {}

    def _ask(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Take where the short way does not lead: from a lease, or from one that is issued now."""
        self._settlements.begin()
        asked = self.quota if quota is None else quota
        take_of(key, cost, asked)
        if type(cost) is not int or not 1 <= cost <= asked.most:
            # Whether it can be, if the key has an override, the server knows.
            return super().take(key, cost, quota)
        spent = self._leasing.spend(key, cost, asked, self._patience_ns)
        if isinstance(spent, RateInfo):
            return spent
        if spent.tag is None:
            return super().take(key, cost, quota)
        return self._issued(spent, spent.tag, key, cost, asked)

    def _issued(self, pending: Pending, tag: int, key: str, cost: int, quota: Quota) -> RateInfo:
        number = secrets.randbits(48) + 1
        began_ns = self._clock()
        order = self._order(number, cost, pending.number, pending.unspent)
        try:
            issue = self._shared.lease(key, quota, order)
        except EngineError:
            self._leasing.give_up(pending.place, tag)
            if self._otherwise.has_fallback:
                return super().take(key, cost, quota)
            raise
        except BaseException:
            self._leasing.give_up(pending.place, tag)
            raise
        self._otherwise.answered()
        if issue.units:
            lease = self._units(issue, cost, number, began_ns)
            deposit = self._leasing.deposit(pending, lease)
            if deposit is not None:
                self._remember(key, quota, deposit)
            self._return_one()
            return msgspec.structs.replace(issue.info, remaining=lease.limit - lease.spent)
        if issue.info.remaining or (cost > 1 and not issue.algorithm.counts_in_window):
            # For fewer units there may be room, or there will be before.
            self._leasing.give_up(pending.place, tag)
        else:
            self._leasing.deposit(pending, self._denial(issue, began_ns))
        return issue.info

    def _units(self, issue: Issue, cost: int, number: int, began_ns: int) -> Lease:
        """Return the lease of what was issued, of which `cost` units are spent."""
        info, lasts_ns = issue.info, self._lasts_ns(issue)
        if issue.algorithm.counts_in_window:
            lasts_ns = min(lasts_ns, info.reset_after_ns)
        most, ends_ns = info.limit - info.remaining, began_ns + lasts_ns
        return Lease(
            code=UNITS,
            limit=info.limit,
            spent=most - issue.units + cost,
            most=most,
            number=number,
            ends_ns=ends_ns,
            # A bucket of gcra may be full again before: what it has here is more than what is left of it.
            resets_ns=max(began_ns + info.reset_after_ns, ends_ns),
        )

    def _denial(self, issue: Issue, began_ns: int) -> Lease:
        info = issue.info
        # Half the way to the promised instant, again and again: few questions, and a change before it is not
        # missed for all of it.
        lasts_ns = max(self._lasts_ns(issue), info.retry_after_ns // 2)
        return Lease(
            code=DENIAL,
            limit=info.limit,
            spent=info.limit,
            most=info.limit,
            again_ns=began_ns + info.retry_after_ns,
            ends_ns=began_ns + min(info.retry_after_ns, lasts_ns),
            resets_ns=began_ns + info.reset_after_ns,
        )

    def _lasts_ns(self, issue: Issue) -> int:
        return min(self._lifetime_ns, issue.interval_ns // _PART)

    def _remember(self, key: str, quota: Quota, deposit: Deposit) -> None:
        if not is_short(key):
            # Clients may choose what is long. It ends by itself, as do the oldest.
            return
        self._deposits.pop((key, quota), None)
        self._deposits[key, quota] = deposit
        if len(self._deposits) > _DEPOSITS_MAX:
            try:
                del self._deposits[next(iter(self._deposits))]
            except (KeyError, StopIteration, RuntimeError):
                # Another thread does it.
                return

    def _return_one(self) -> None:
        """Give back what is left of one lease that has ended, of a key that may not come to this host again."""
        now_ns = self._clock()
        while self._deposits:
            try:
                (key, quota), lease = next(iter(self._deposits.items()))
                if now_ns < lease.ends_ns:
                    return
                del self._deposits[key, quota]
            except (KeyError, StopIteration, RuntimeError):
                # Another thread does it.
                return
            if self._gives_back(key, quota, lease):
                return

    def _gives_back(self, key: str, quota: Quota, lease: Deposit) -> bool:
        """End a lease; return whether there was anything to give back."""
        unspent = self._leasing.give_up(lease.place, lease.tag)
        if unspent:
            # Units that the server does not get back return with the next window.
            with contextlib.suppress(EngineError):
                self._shared.lease(key, quota, self._order(0, 0, lease.number, unspent))
        return bool(unspent)

    def _hand_back(self) -> None:
        deadline = time.monotonic() + _CLOSING_S
        deposits, self._deposits = self._deposits, {}
        for (key, quota), lease in tuple(deposits.items()):
            if time.monotonic() > deadline or self._shared.is_failing:
                return
            try:
                self._gives_back(key, quota, lease)
            except StoreError:
                # The table is closed.
                return

    def _order(self, number: int, cost: int, returned: int, unspent: int) -> Order:
        config = self._config
        return Order(self._host, number, cost, returned, unspent, config.hosts, config.share, config.most)


_stores: Final[weakref.WeakSet[LeaseStore]] = weakref.WeakSet()


def _at_exit() -> None:
    for store in list(_stores):
        store.close()


# A worker of gunicorn that is told to end leaves by this way, and has no other.
atexit.register(_at_exit)

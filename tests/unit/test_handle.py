"""Handles: what the stores of one process share, what each has alone, and how a dropped store ends."""

from __future__ import annotations

import copy
import dis
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import dropwhile, takewhile

import pytest

from shm_store import (
    BackendError,
    Concurrency,
    Config,
    LayoutMismatchError,
    OwnershipError,
    ShmStore,
    StoreClosedError,
    StripeTimeoutError,
    TableFullError,
)
from shm_store.operate.housekeeping import Housekeeping
from shm_store.operate.inspection import Inspection
from shm_store.table.attachment import Attachment
from shm_store.table.locking.seats import Role
from shm_store.table.locking.stripes import Hold
from shm_store.table.segment.lifetime import unlink
from shm_store.testing import FakeClock
from tests.fork import FORKS, Fork, ended, in_child
from tests.segments import footprint
from tests.threads import holding

#: All that can be dropped, each from the name of a segment that is there.
HANDLES: dict[str, Callable[[str], object]] = {
    "open": lambda name: ShmStore.open(_config(name)),
    "open and take": lambda name: _used(ShmStore.open(_config(name))),
    "attach": ShmStore.attach,
    "inspection": Inspection.attach,
    "housekeeping": lambda name: Housekeeping.attach(name, Role.MASTER),
}


def _config(name: str, **settings: object) -> Config:
    return Config(**{"limit": 1000, "interval": "1h", "initial_size": 8, "name": name} | settings)  # type: ignore[arg-type]


def _used(store: ShmStore) -> ShmStore:
    for _ in range(3):
        store.take("a")
    return store


def _announced(name: str) -> Housekeeping:
    housekeeping = Housekeeping.attach(name, Role.MASTER)
    assert housekeeping is not None
    housekeeping.announce()
    return housekeeping


HANDLES["announced"] = _announced
every_handle = pytest.mark.parametrize("handle", HANDLES.values(), ids=HANDLES)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector only the last reference can free an object."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def name(segment_name: str) -> str:
    """The name of a segment that is there, and that this process has not attached."""
    ShmStore.open(_config(segment_name)).close()
    return segment_name


def _seats(name: str) -> int:
    inspection = Inspection.attach(name)
    assert inspection is not None
    with inspection:
        return inspection.stats().seats_taken


@pytest.mark.usefixtures("no_collector")
@every_handle
def test_dropped_handle_is_closed_at_once_with_a_warning(name: str, handle: Callable[[str], object]) -> None:
    """The last reference gives back seats, descriptors and mapping; one warning names the segment and the remedy."""
    dropped = handle(name)
    assert footprint(name)
    with pytest.warns(ResourceWarning, match=f"'{name}': dropped without close.*; close it, or use it in a") as caught:
        del dropped
    assert [warning.filename for warning in caught] == [__file__]
    # The warning refers to what was dropped, for `tracemalloc` to tell where it was opened.
    caught.clear()
    assert (footprint(name), _seats(name)) == (0, 0)
    unlink(name)


@pytest.mark.usefixtures("no_collector")
@every_handle
def test_closed_handle_is_dropped_in_silence(name: str, handle: Callable[[str], object]) -> None:
    """Whether it was closed once or twice."""
    closed = handle(name)
    for _ in range(2):
        closed.close()  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del closed
    assert footprint(name) == 0
    unlink(name)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another"])
def test_store_opened_for_each_call_uses_up_nothing(name: str, others: int) -> None:
    """More calls than the segment has seats use one seat, and no descriptor more than the first."""

    def allow(key: str) -> bool:
        return ShmStore.open(_config(name)).take(key).allowed

    kept = [ShmStore.open(_config(name)) for _ in range(others)]
    before = footprint(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert sum(allow("a") for _ in range(1100)) == 1000
    assert (footprint(name), _seats(name)) == (before, others)
    for store in kept:
        store.close()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "use",
    [
        lambda store: (store.take, lambda take: take("a")),
        lambda store: (store.peek, lambda peek: peek("a")),
        lambda store: (store.acquire, lambda acquire: acquire("a")),
        lambda store: (store.take_all, lambda take_all: take_all([("a", None, 1), ("b", None, 1)])),
        lambda store: (store.inspect(), lambda inspection: inspection.stats()),
        lambda store: (store.reserve("a", 1, Concurrency(2)), lambda reservation: reservation.commit()),
        lambda store: (store.reserve("a", 2), lambda reservation: reservation.refund()),
    ],
    ids=["take", "peek", "acquire", "take_all", "inspect", "in flight", "reservation"],
)
def test_what_comes_from_a_store_keeps_it_open(
    name: str, use: Callable[[ShmStore], tuple[object, Callable[[object], object]]]
) -> None:
    """A bound method, an inspection or a reservation works after the last reference to the store, and ends with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept, work = use(_used(ShmStore.open(_config(name))))
        for _ in range(3):
            work(kept)
        assert footprint(name)
    with pytest.warns(ResourceWarning, match=name) as caught:
        del kept
    caught.clear()
    assert (footprint(name), _seats(name)) == (0, 0)


def test_dropped_store_gives_back_what_was_in_flight(name: str) -> None:
    """A reservation that is dropped with its store ends; a second process may have its units."""
    with pytest.warns(ResourceWarning):
        assert ShmStore.open(_config(name)).reserve("a", 2, Concurrency(2)).allowed
    with ShmStore.open(_config(name)) as store:
        assert store.stats().in_flight == 0


@pytest.mark.usefixtures("no_collector")
def test_store_dropped_in_the_middle_of_an_operation_is_closed_by_the_next(name: str) -> None:
    """A collector runs anywhere: what it finds while a stripe is held waits for the end of the operation."""
    with ShmStore.open(_config(name)) as store:
        held = [ShmStore.attach(name), Housekeeping.attach(name, Role.MASTER)]
        before = footprint(name)

        def body(_hold: Hold) -> None:
            held.clear()

        store._table.stripes.run(0, body)
        assert footprint(name) == before
        with pytest.warns(ResourceWarning) as caught:
            store.get("a")
        assert len(caught) == 2
        assert footprint(name) < before
    unlink(name)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("follow", ["open", "attach"])
def test_store_dropped_in_its_last_operation_is_closed_by_the_next_opening(name: str, follow: str) -> None:
    """Even if the dropped handle was the last one of its segment."""
    dropped: list[ShmStore] = []

    def clock() -> int:
        dropped.clear()
        return time.monotonic_ns()

    other = f"{name}-other"
    try:
        with ShmStore.open(_config(other), clock=clock) as store:
            dropped.append(ShmStore.open(_config(name)))
            store.take("a")
            assert footprint(name)
            assert not dropped
        with pytest.warns(ResourceWarning, match=name) as caught:
            HANDLES[follow](name).close()  # type: ignore[attr-defined]
        caught.clear()
        assert footprint(name) == 0
    finally:
        unlink(other)


def test_warning_that_is_an_error_closes_all_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python reports it, as it does for files; no operation fails for it."""
    reported: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(str(unraisable.exc_value)))
    with warnings.catch_warnings(), ShmStore.open(_config(name)) as store:
        warnings.simplefilter("error", ResourceWarning)
        dropped = [ShmStore.attach(name)]
        dropped.clear()
        dropped.append(ShmStore.attach(name))

        def body(_hold: Hold) -> None:
            dropped.clear()

        store._table.stripes.run(0, body)
        assert store.take("a").allowed
    assert [name in message for message in reported] == [True, True]
    unlink(name)


EXIT = """
import sys
from shm_store import Config, ShmStore
from shm_store.operate.inspection import Inspection
store = ShmStore.open(Config(name=sys.argv[1], initial_size=8))
store.take("a")
take = ShmStore.open(Config(name=sys.argv[1], initial_size=8)).take
inspection = Inspection.attach(sys.argv[1])
held = [store.reserve("b", 2)]
held.append(held)
"""


def test_exit_of_the_interpreter_is_quiet(name: str) -> None:
    """A program that ends with open stores prints nothing, in development mode either, and leaves no seat."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", EXIT, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("", "")
    with ShmStore.open(_config(name)) as store:
        assert store.stats().seats_taken == store.stats().seats_dead


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_close_nothing(name: str, copied: Callable[[ShmStore], ShmStore]) -> None:
    """A copy is a handle of its own on the same table, and the store outlives it."""
    with ShmStore.open(_config(name)) as store:
        with copied(store) as twin:
            assert twin.config == store.config
            assert twin.take("a").remaining == 999
        assert store.take("a").remaining == 998


def test_pickle_of_an_attached_store_attaches(name: str) -> None:
    """It needs no settings of the table, and creates none."""
    with ShmStore.open(_config(name, mode=0o666)) as store, ShmStore.attach(name) or store as attached:
        assert attached is not store
        pickled = pickle.dumps(attached)
        with pickle.loads(pickled) as twin:  # noqa: S301 - our own
            assert twin.config == attached.config
            assert twin.take("a").allowed
    store.unlink()
    with pytest.raises(BackendError, match="attach failed: no table has that name any more"):
        pickle.loads(pickled)  # noqa: S301 - our own


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_child_gives_back_nothing_of_its_parent(name: str, fork: Fork) -> None:
    """A child that drops or closes an inherited store leaves its parent's seats and hold on the segment alone."""
    store = ShmStore.open(_config(name))
    store.take("a")

    def drop() -> None:
        nonlocal store
        with pytest.warns(ResourceWarning):
            del store
        assert (footprint(name), _seats(name)) == (0, 1)
        with pytest.raises(BackendError, match="others are attached"):
            unlink(name)

    assert ended(in_child(drop, fork)) == 0
    assert ended(in_child(store.close, fork)) == 0
    with pytest.raises(BackendError, match="others are attached"):
        unlink(name)
    assert store.stats().seats_taken == 1
    assert store.take("a").remaining == 998
    store.close()
    unlink(name)


def test_stores_share_all_that_belongs_to_the_process(name: str) -> None:
    """Mapping, descriptors and seats: six hundred stores need no more of them than one."""
    stores = [ShmStore.open(_config(name))]
    stores[0].take("a")
    before = footprint(name)
    stores += [ShmStore.open(_config(name)) for _ in range(600)]
    for store in stores:
        store.take("a")
    assert (footprint(name), _seats(name)) == (before, 1)
    for store in stores[:-1]:
        store.close()
    assert stores[-1].take("a").remaining == 1000 - 603
    stores[-1].close()
    unlink(name)


def test_each_store_keeps_its_own_settings(name: str, clock: FakeClock) -> None:
    """Clock, default quota, what a full set does, and the lock timeout."""
    with (
        ShmStore.open(_config(name, limit=5), clock=clock) as mine,
        ShmStore.open(_config(name, limit=7, on_full="deny", lock_timeout="1ms")) as other,
    ):
        assert (mine.take("a").limit, other.take("b").limit) == (5, 7)
        clock.advance(7200)
        assert mine.take("a").remaining == 4
        for number in range(20):
            mine.take(f"flood {number}")
        assert mine._table.stripes.waits.timeout_ns == 100 * other._table.stripes.waits.timeout_ns
        for number in range(8):
            mine.set(f"override {number}", 1, "1h")
        with pytest.raises(TableFullError):
            other.take("new")


def test_closed_store_takes_nothing_while_another_is_open(name: str) -> None:
    """Neither the short way, nor the long one, nor a bound method: the seats that are left are the other store's."""
    with ShmStore.open(_config(name)) as store:
        closed = _used(ShmStore.open(_config(name)))
        take = closed.take
        closed.close()
        calls: list[Callable[[], object]] = [
            lambda: take("a"),
            lambda: take("a", 2),
            lambda: closed.peek("a"),
            lambda: closed.get("a"),
            closed.stats,
        ]
        for call in calls:
            with pytest.raises(StoreClosedError):
                call()
        assert store.take("a").remaining == 996


def test_operation_that_began_before_close_leaves_no_hint(name: str) -> None:
    """A take of another thread that ends after its store was closed is the last one, on any way."""
    with ShmStore.open(_config(name)):
        closing = ShmStore.open(_config(name))
        closing.take("a")
        hints = closing.backend.known
        closing.close()
        hints._keep("a", hints)  # type: ignore[arg-type]
        assert not hints.recent


def test_close_waits_for_its_own_operations_beside_another_store(name: str) -> None:
    """As the last store of a process does."""
    order = list[str]()
    with ShmStore.open(_config(name)) as store:
        closing = ShmStore.open(_config(name, lock_timeout="30s"))

        def close() -> None:
            closing.close()
            order.append("close")

        thread = threading.Thread(target=close)
        with holding(closing, last=lambda: order.append("operation")):
            thread.start()
            while not closing._table.stripes.is_closed:
                time.sleep(0.001)
        thread.join()
        assert order == ["operation", "close"]
        assert store.take("a").allowed


def test_close_does_not_wait_for_ever_for_another_store(name: str) -> None:
    """Operations of a stopped holder's waiters are other stores' to end."""
    with ShmStore.open(_config(name)) as store:
        with holding(store):
            closing = ShmStore.open(_config(name, lock_timeout="1ms"))
            with pytest.raises(StripeTimeoutError):
                closing.take("a")
            closing.close()
        assert store.take("a").allowed


@pytest.mark.parametrize("removal", ["unlink", "rename"])
def test_segment_that_was_made_anew_is_another(name: str, removal: str) -> None:
    """What counts is the file, and not its name."""
    old = _used(ShmStore.open(_config(name)))
    if removal == "unlink":
        unlink(name, force=True)
    else:
        os.rename(f"/dev/shm/{name}", f"/dev/shm/{name}-away")
    with ShmStore.open(_config(name)) as new:
        assert new.take("a").remaining == 999
        assert old.take("a").remaining == 996
    old.close()
    if removal == "rename":
        os.unlink(f"/dev/shm/{name}-away")


def test_segment_is_not_removed_under_another_store_of_the_process(name: str) -> None:
    """`unlink` counts them as it counts other processes; afterwards a new store may be opened."""
    mine, other = ShmStore.open(_config(name)), ShmStore.open(_config(name))
    with pytest.raises(BackendError, match="others are attached: this process has it open 2 times"):
        mine.unlink()
    with pytest.raises(BackendError, match="others are attached"):
        unlink(name)
    other.close()
    with ShmStore.open(_config(name)) as third:
        assert third._table.segment is mine._table.segment
    mine.unlink()
    with ShmStore.open(_config(name)) as new:
        assert new.take("a").remaining == 999
    mine.close()


def test_roles_have_seats_of_their_own(name: str) -> None:
    """A master that preloads its application has its own seat, and its store another."""
    with ShmStore.open(_config(name)) as store:
        master = _announced(name)
        store.take("a")
        assert (master.masters(), store.stats().seats_taken) == ([os.getpid()], 2)
        master.close()
        assert store.stats().seats_taken == 1


def _damage(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(b"\xff")


@pytest.mark.parametrize(
    ("settings", "change", "error"),
    [
        ({"initial_size": 9}, lambda _: None, LayoutMismatchError),
        ({"stripes": 1, "initial_size": 300}, lambda _: None, LayoutMismatchError),
        ({}, lambda path: os.chmod(path, 0o640), OwnershipError),
        ({}, lambda path: os.chown(path, 1234, 1234), OwnershipError),
        ({"owner": 1234}, lambda _: None, OwnershipError),
        ({}, _damage, LayoutMismatchError),
    ],
    ids=["size", "stripes", "mode", "owner", "closed to its owner", "header"],
)
def test_second_opening_checks_as_much_as_the_first(
    name: str, settings: dict[str, object], change: Callable[[str], None], error: type[Exception]
) -> None:
    """Geometry, owner, mode and header; a refused store does not count."""
    with ShmStore.open(_config(name)) as store:
        change(f"/dev/shm/{name}")
        with pytest.raises(error):
            ShmStore.open(_config(name, **settings))
        assert store._table.handle._attachment.handles == 1
        assert store.take("a").allowed


def test_handles_are_counted_where_no_thread_switches() -> None:
    """Between the read of the number and the store is nothing at which CPython switches threads or collects garbage."""
    for function in (Attachment.enter, Attachment.leave):
        code = dropwhile(lambda each: each.argval != "handles", dis.get_instructions(function))
        read, *between = takewhile(lambda each: each.opname != "STORE_ATTR", code)
        assert read.opname == "LOAD_ATTR"
        words = {word for each in between for word in each.opname.split("_")}
        assert not words & {"CALL", "BACKWARD", "RESUME", "BUILD", "SEND"}, [each.opname for each in between]
        assert not any(each.starts_line for each in between)

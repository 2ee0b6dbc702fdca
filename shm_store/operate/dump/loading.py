"""Loads a dump: makes a table of any geometry, with every slot in its place before another process can attach."""

from __future__ import annotations

import time
from typing import BinaryIO, Final

import msgspec

from shm_store.config import Config, require_name
from shm_store.core.validation import require_binary, require_flag
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError, NoRoomError, TableFullError
from shm_store.operate.dump import file as dump_file
from shm_store.operate.dump.file import Contents, Saved, no_dump
from shm_store.operate.dump.soundness import is_sound
from shm_store.process import identity
from shm_store.table.attachment import Attachment
from shm_store.table.locking.seats import Role
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.record import Block
from shm_store.table.segment import lifetime
from shm_store.table.segment.header import geometry_of
from shm_store.table.segment.layout import (
    BLOCKED,
    EVICTED,
    EXPIRED,
    MIN_TTL_AT,
    RECLAIMED_IDLE,
    SECRET,
    TTL_INTERVAL_AT,
    UNKNOWN,
)
from shm_store.table.segment.mapping import Segment
from shm_store.table.table import Table

# A table that its file alone describes has at most so many bytes, or so many for each byte of the file: a table of
# which a few percent are in use.
_SIZE_MAX: Final = 64 * 2**20
_TIMES_FILE_MAX: Final = 64


class Loaded(msgspec.Struct, frozen=True):
    """What became of a dump.

    Attributes:
        loaded: Slots that are in the table now.
        dropped: Slots with spent units, overrides and blocks for which there was no room.
    """

    loaded: int
    dropped: int


def load(
    file: BinaryIO,
    name: str,
    *,
    initial_size: int | None = None,
    stripes: int | None = None,
    label_size: int | None = None,
    mode: int = 0o600,
    owner: str | int | None = None,
    drop_excess: bool = False,
) -> Loaded:
    """Make the segment `name` from a dump; a process that opens it before the end waits, half a minute at most.

    A checksum detects a damaged file, and nothing is made of it. It does not detect a forged file.

    Args:
        file: The dump, open for bytes.
        name: The segment to make.
        initial_size: Its slots; None for as many as the table had, up to a table of 64 MiB or of 64 bytes for each byte
            of the file.
        stripes: Its semaphores; None for as many as the table had.
        label_size: Bytes that it keeps of each key; None for as many as the table kept.
        mode: Its permission bits; the file has none.
        owner: The user that it belongs to if root makes it, by name or uid.
        drop_excess: Whether to leave out slots for which there is no room: those that would be idle soonest.

    Raises:
        ConfigurationError: The file is no dump, is damaged, or is not of this boot of the host and this time namespace;
            or an argument is out of range. Nothing was made.
        NoRoomError: There is no room for all slots, and `drop_excess` is False. Nothing was made.
        BackendError: There is such a segment, or the operating system refused.
        OSError: The file cannot be read.
    """
    require_name(name)
    require_binary(file, "read")
    require_flag("drop_excess", drop_excess)
    sizes = {"initial_size": initial_size, "stripes": stripes, "label_size": label_size}
    wanted: dict[str, object] = {setting: value for setting, value in sizes.items() if value is not None}
    wanted |= {"name": name, "mode": mode, "owner": owner}
    # Refused before the file, which may be long, is read.
    msgspec.structs.replace(Config(), **wanted)
    contents = dump_file.read(file)
    config = _described(file, contents, name)
    _require_sound(file, contents)
    config = msgspec.structs.replace(config, **wanted)
    if initial_size is None:
        _require_proportion(file, contents, config)
    loading = _Loading(contents, config, drop_excess=drop_excess)
    lifetime.create(config, contents.head.secret, loading.fill)
    return loading.loaded


class _Loading:
    """Fills a new segment, which no other process can attach yet: it needs no stripe and no seat."""

    def __init__(self, contents: Contents, config: Config, *, drop_excess: bool) -> None:
        self._head, self._slots, _ = contents
        self._config = config
        self._drop_excess = drop_excess
        self.loaded = Loaded(0, 0)

    def fill(self, segment: Segment) -> None:
        """Give every slot back to its key; raise NoRoomError if some have no room, and may not be dropped."""
        # A Config has seconds, which are not exact for months.
        segment.words[TTL_INTERVAL_AT], segment.words[MIN_TTL_AT] = self._head.ttl_interval_ns, self._head.min_ttl_ns
        table = Table(Attachment(segment, Role.USER), self._config, time.monotonic_ns)
        refused = sum(not _put(table, each) for each in self._slots)
        records = table.stripes.records
        dropped = refused + sum(record[EVICTED] for record in records)
        # Nothing is forgotten with these.
        idle = sum(record[EXPIRED] + record[RECLAIMED_IDLE] for record in records)
        self.loaded = Loaded(len(self._slots) - dropped - idle, dropped)
        if dropped and not self._drop_excess:
            raise NoRoomError(segment.name, len(self._slots), dropped)


def _described(file: BinaryIO, contents: Contents, name: str) -> Config:
    """Return the settings of the table that was dumped; raise ConfigurationError if there can be none here."""
    head = contents.head
    try:
        config = Config(
            initial_size=head.initial_size,
            stripes=head.stripes,
            label_size=head.label_size,
            ttl_interval=head.ttl_interval_ns / NS_PER_SECOND,
            min_ttl=head.min_ttl_ns / NS_PER_SECOND,
        )
    except ConfigurationError as error:
        raise no_dump(file, f"it is damaged: {error.setting} is out of range") from error
    geometry = geometry_of(config)
    if len(head.secret) != SECRET or geometry.stripes != head.stripes or not 0 <= head.slots <= geometry.slots:
        raise no_dump(file, "it is damaged: its head describes no table")
    here = identity.host(name)
    if head.boot_id != here.boot_id:
        raise no_dump(file, "it was made before the host was restarted, and its instants mean nothing now")
    if head.time_namespace != here.namespaces.time:
        raise no_dump(file, "it was made in another time namespace, and its instants mean nothing here")
    return config


def _require_sound(file: BinaryIO, contents: Contents) -> None:
    """Raise ConfigurationError unless the table can have had all of the slots at once."""
    now_ns, seen = time.monotonic_ns(), set[bytes]()
    for saved in contents.slots:
        if saved.fingerprint in seen or not is_sound(saved, contents.head, now_ns):
            raise no_dump(file, "a slot of it is damaged")
        seen.add(saved.fingerprint)


def _require_proportion(file: BinaryIO, contents: Contents, config: Config) -> None:
    """Raise ConfigurationError if the table would be far larger than its file."""
    size = geometry_of(config).size
    if size > max(_SIZE_MAX, _TIMES_FILE_MAX * contents.size):
        asked = f"it asks for {config.initial_size:,} slots ({size / 2**20:,.0f} MiB) and has {len(contents.slots):,}"
        raise no_dump(file, asked, "give initial_size, as many or fewer")


def _put(table: Table, saved: Saved) -> bool:
    """Give a slot back to its key; return whether there was room."""
    place, record = table.slots.located(saved.fingerprint), saved.record
    hold = Hold(table.seats.view(0), place.stripe, table.stripes.records[place.stripe], table.clock())
    try:
        table.finding.admit(hold, place, record)
    except TableFullError:
        return False
    if isinstance(record, Block):
        hold.record[BLOCKED] = max(hold.record[BLOCKED], record.ends_ns)
    number = table.slots.number(place)
    if table.labels is not None and number is not None:
        text = None if saved.key_length == UNKNOWN else saved.key
        counts = saved.allowed, saved.denied
        table.labels.restore(place.set_index, number, text, saved.key_length, counts)
    return True

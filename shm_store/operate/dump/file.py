"""The file of a dump, format 6: its messages, their frames and their checksum.

    4 bytes    length of the next message, little-endian
    n bytes    a Head in msgpack
    4 + n      for each slot, in ascending order of `Saved.order`, a Saved in the same form
    32 bytes   BLAKE2b-256 of all bytes before

One content has one form. Another encoding of a message, or another order of slots, is damage. The
checksum detects damage. It is no signature: keep a dump where only its owner can write.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar

import msgspec

from shm_store.errors import ConfigurationError
from shm_store.table.records.record import Block, Bucket
from shm_store.table.segment.layout import UNKNOWN

FORMAT: Final = 6
_LENGTH: Final = 4
_CHECKSUM: Final = 32
# A slot with a label of 1,024 bytes needs some 1,200.
_MESSAGE_MAX: Final = 4_096
_DAMAGED: Final = "it is damaged"
_ANOTHER: Final = "give a file that `shm-store dump` has written since the host was started"

_T = TypeVar("_T")


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first message of a file.

    Attributes:
        format: FORMAT.
        boot_id: The boot of the host to whose clock the instants belong.
        time_namespace: The time namespace of that clock.
        secret: The key of the fingerprint hash.
        initial_size: Slots that the table was made with.
        stripes: Its semaphores.
        label_size: Bytes that it kept of each key.
        ttl_interval_ns: Time between two passes of its sweeper.
        min_ttl_ns: Idle time after which its buckets expired.
        slots: How many slots follow.
    """

    format: int
    boot_id: bytes
    time_namespace: int
    secret: bytes
    initial_size: int
    stripes: int
    label_size: int
    ttl_interval_ns: int
    min_ttl_ns: int
    slots: int


class Saved(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One slot: its fingerprint, its bucket or block, and its label if the table had labels.

    `key_length` is UNKNOWN if the table had no text.
    """

    fingerprint: bytes
    record: Bucket | Block
    key: bytes = b""
    key_length: int = UNKNOWN
    allowed: int = 0
    denied: int = 0

    @property
    def order(self) -> tuple[bool, int, bytes]:
        """Its place in the file: of a set without room for all, the last ones stay."""
        is_override = isinstance(self.record, Bucket) and self.record.is_override
        return is_override, self.record.idle_at_ns, self.fingerprint


class Contents(NamedTuple):
    """A whole file, verified.

    Attributes:
        head: Its head.
        slots: Its slots, in order.
        size: Its bytes.
    """

    head: Head
    slots: list[Saved]
    size: int


class _AnyHead(msgspec.Struct):
    format: int


def write(file: BinaryIO, head: Head, slots: Sequence[Saved]) -> None:
    """Write a dump; `slots` are in order."""
    # A raw file may write less than it is given.
    target: Any = io.BufferedWriter(file) if isinstance(file, io.RawIOBase) else file
    checksum = hashlib.blake2b(digest_size=_CHECKSUM)
    for message in (head, *slots):
        data = msgspec.msgpack.encode(message)
        frame = len(data).to_bytes(_LENGTH, "little") + data
        checksum.update(frame)
        target.write(frame)
    target.write(checksum.digest())
    if target is not file:
        target.flush()
        target.detach()


def read(file: BinaryIO) -> Contents:
    """Read a whole dump; raise ConfigurationError if it is none of this format, or damaged."""
    reader = _Reader(file)
    head = reader.head()
    slots = [reader.message(Saved) for _ in range(head.slots)]
    reader.finish()
    if any(one.order >= other.order for one, other in itertools.pairwise(slots)):
        raise no_dump(file, f"{_DAMAGED}: its slots are not in order")
    return Contents(head, slots, reader.size)


def no_dump(file: BinaryIO, reason: str, remedy: str = _ANOTHER) -> ConfigurationError:
    """Return the error that a file cannot be loaded, and why."""
    return ConfigurationError("file", getattr(file, "name", file), f"{reason}; {remedy}")


class _Reader:
    """Reads the messages of one file in turn.

    Attributes:
        size: Bytes read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._checksum = hashlib.blake2b(digest_size=_CHECKSUM)
        self.size = 0

    def head(self) -> Head:
        data = self._frame()
        start = None if data is None else _decoded(data, _AnyHead)
        if data is None or start is None:
            raise no_dump(self._file, "it does not begin like a dump")
        if start.format != FORMAT:
            reason = f"its format is {start.format}, not {FORMAT}"
            raise no_dump(self._file, reason, "load it with the release that wrote it")
        return self._whole(data, Head)

    def message(self, kind: type[_T]) -> _T:
        data = self._frame()
        if data is None:
            raise no_dump(self._file, f"{_DAMAGED}, or ends too soon")
        return self._whole(data, kind)

    def finish(self) -> None:
        """Verify the checksum, and that the file ends with it."""
        found = self._checksum.digest()
        if self._bytes(_CHECKSUM) != found:
            raise no_dump(self._file, f"{_DAMAGED}: its checksum does not match")
        if self._file.read(1):
            raise no_dump(self._file, f"{_DAMAGED}: it goes on after its end")

    def _frame(self) -> bytes | None:
        """Return the next message; None if there is none."""
        prefix = self._bytes(_LENGTH)
        length = int.from_bytes(prefix, "little")
        if len(prefix) != _LENGTH or not 0 < length <= _MESSAGE_MAX:
            return None
        data = self._bytes(length)
        return data if len(data) == length else None

    def _whole(self, data: bytes, kind: type[_T]) -> _T:
        message = _decoded(data, kind)
        if message is None or msgspec.msgpack.encode(message) != data:
            raise no_dump(self._file, _DAMAGED)
        return message

    def _bytes(self, count: int) -> bytes:
        """Read so many bytes; fewer only at the end of the file."""
        data = b""
        while len(data) < count:
            # A raw file may return less.
            more: Any = self._file.read(count - len(data))
            if more is None:
                raise BlockingIOError("the file does not block: give one that does")
            if not more:
                break
            data += more
        self._checksum.update(data)
        self.size += len(data)
        return data


def _decoded(data: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # A text that is not UTF-8 is a UnicodeDecodeError, which is a ValueError alone.
        return None

"""Which tables a process trusts: by owner those of root, itself and one more user; by mode those of its groups."""

from __future__ import annotations

import os
import stat
from typing import Final

from shm_store.config import Config, require_owner
from shm_store.errors import ConfigurationError, OwnershipError
from shm_store.table.host.system import pwd

_ROOT: Final = 0
_DIGITS_MAX: Final = 10
#: What `os.chown` leaves as it is.
KEEP: Final = -1


class _Assumed:
    owner: str | int | None = None


def assume(owner: str | int | None) -> None:
    """Make `owner` the user whose tables this process and its children trust where a call names none.

    Raises:
        ConfigurationError: `owner` can be no user. Whether there is one of that name, each call looks up anew.
    """
    require_owner(owner)
    _Assumed.owner = owner


def uid_of(owner: str | int | None) -> int | None:
    """Return the uid of `owner`, or of the assumed one if it is None; None if there is neither.

    A name that no user has may be a uid in digits, as on a command line.

    Raises:
        ConfigurationError: There is no such user.
    """
    require_owner(owner)
    user = _Assumed.owner if owner is None else owner
    if not isinstance(user, str):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        if user.isascii() and user.isdecimal() and len(user) <= _DIGITS_MAX:
            require_owner(int(user))
            return int(user)
        remedy = "name a user of this host (getent passwd), or give a uid"
        raise ConfigurationError("owner", user, remedy) from None


def ids_for(owner: str | int | None) -> tuple[int, int]:
    """Return the uid and the gid that a table which this process creates has to get; KEEP where they stay as they are.

    Only root can give a table away. A uid without an entry in the user database has no primary group: the group stays.

    Raises:
        ConfigurationError: There is no such user.
    """
    uid = uid_of(owner)
    if uid is None or os.geteuid() != _ROOT:
        return KEEP, KEEP
    try:
        return uid, pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid, KEEP


def require_trusted(name: str, status: os.stat_result, owner: str | int | None, mode: int | None) -> None:
    """Raise OwnershipError unless this process trusts a table, by the status of its open file.

    It trusts those of root, of its own user and of `owner`. By the mode of its Config, it trusts its group and others.
    """
    if status.st_uid not in {_ROOT, os.geteuid(), uid_of(owner)} and not _is_shared_with_us(status, mode):
        user = _named(status.st_uid)
        remedy = f"name the owner to trust it (owner={user!r}, or --owner {user}), or {_removal(name)}"
        raise OwnershipError(name, status.st_uid, os.geteuid(), remedy)


def require_access(name: str, status: os.stat_result, config: Config) -> None:
    """Raise OwnershipError unless the file of a trusted table is as open as `config` asks for.

    It grants no more than the mode. Root opens no table of its own for an owner that the mode keeps out: a server that
    switches its user opens the table as root, and its workers would fail one by one.
    """
    found, owner = stat.S_IMODE(status.st_mode), uid_of(config.owner)
    if found & ~config.mode:
        reason = f"its mode {found:#o} grants more than the {config.mode:#o} of the configuration"
        # Its semaphores as well: one that grants more than its segment is refused, too.
        narrow = f"chmod {config.mode:o} /dev/shm/{name} /dev/shm/sem.{name}.*"
        remedy = f"give the mode that it was made with, run {narrow}, or {_removal(name)}"
    elif os.geteuid() == status.st_uid == _ROOT and owner not in (None, _ROOT) and not found & 0o066:
        reason = f"its mode {found:#o} does not let uid {owner} in, for which it was opened"
        remedy = f"drop it, so that it is made anew for that user: shm-store unlink --name {name}"
    else:
        return
    raise OwnershipError(name, status.st_uid, os.geteuid(), remedy, reason)


def not_permitted(name: str, status: os.stat_result) -> OwnershipError:
    """Return the error that this process must not open a file of the segment `name`."""
    reason = f"its mode {stat.S_IMODE(status.st_mode):#o} does not let this process in"
    if status.st_uid == os.geteuid():
        return OwnershipError(
            name, status.st_uid, status.st_uid, f"run chmod u+rw on the file, or {_removal(name)}", reason
        )
    remedy = (
        f"run as uid {status.st_uid}, or open the store after the switch of user; "
        f"or have root make the table for this user: Config(owner={os.geteuid()})"
    )
    return OwnershipError(name, status.st_uid, os.geteuid(), remedy, reason)


def not_ours_to_remove(name: str, path: str) -> OwnershipError:
    """Return the error that this process must not remove a file of the segment `name`."""
    try:
        uid = os.lstat(path).st_uid
    except OSError:
        # The folder itself is closed to this user.
        uid = _ROOT
    reason = f"only its owner and root can remove {path}"
    return OwnershipError(name, uid, os.geteuid(), f"remove it as root or as uid {uid}", reason)


def _is_shared_with_us(status: os.stat_result, mode: int | None) -> bool:
    """Return whether the file and `mode` both grant read and write to a class of users that this process is in."""
    # Root is in no class: it may open every file.
    if mode is None or os.geteuid() == _ROOT:
        return False
    both = status.st_mode & mode
    in_group = status.st_gid in {os.getegid(), *os.getgroups()}
    return both & 0o006 == 0o006 or (in_group and both & 0o060 == 0o060)


def _named(uid: int) -> str:
    """Return the name of a user, or the uid in digits if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"{uid}"


def _removal(name: str) -> str:
    return f"remove it as root: shm-store unlink --name {name} --force"

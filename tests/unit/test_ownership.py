"""Whose tables a process trusts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shm_store import Config, ConfigurationError, OwnershipError, StoreError
from shm_store.table.host import ownership
from tests.ground import USER, Ground, Place

OTHER = 4321


def _status(uid: int, mode: int, gid: int = 0) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.fixture(autouse=True)
def _nobody_assumed() -> Iterator[None]:
    yield
    ownership.assume(None)


def test_owner_is_a_name_a_uid_or_digits() -> None:
    """A name is looked up, and digits that no user has for a name are a uid."""
    assert ownership.uid_of(None) is None
    assert ownership.uid_of("root") == 0
    assert ownership.uid_of(USER) == ownership.uid_of(str(USER)) == USER
    for wrong in ("no-such-user", "4294967295", "9" * 400):
        with pytest.raises(ConfigurationError, match="owner is"):
            ownership.uid_of(wrong)


def test_assumed_owner_holds_where_a_call_names_none() -> None:
    """The hooks of a server say once what every store of the process trusts."""
    ownership.assume(USER)
    assert ownership.uid_of(None) == USER
    assert ownership.uid_of("root") == 0
    ownership.require_trusted("t", _status(USER, 0o600), None, 0o600)
    ownership.assume(None)
    with pytest.raises(OwnershipError):
        ownership.require_trusted("t", _status(USER, 0o600), None, 0o600)


def test_table_that_root_makes_is_its_owners() -> None:
    """Uid and primary group are the owner's; a uid that no user has keeps the group."""
    assert ownership.ids_for("nobody") == (65_534, 65_534)
    assert ownership.ids_for(USER) == (USER, ownership.KEEP)
    assert ownership.ids_for(None) == (ownership.KEEP, ownership.KEEP)


def test_root_trusts_no_table_by_its_mode() -> None:
    """Root has to name the owner of a stranger's table, of any mode; the error has both users and the remedy."""
    for mode in (0o600, 0o660, 0o666):
        with pytest.raises(
            OwnershipError, match=f"owner='{USER}', or --owner {USER}.*unlink --name t --force"
        ) as caught:
            ownership.require_trusted("t", _status(USER, mode), None, 0o666)
        assert (caught.value.name, caught.value.owner, caught.value.user) == ("t", USER, 0)
        assert isinstance(caught.value, StoreError)
        assert not caught.value.is_failure
        ownership.require_trusted("t", _status(USER, mode), USER, 0o666)
    with pytest.raises(OwnershipError):
        ownership.require_trusted("t", _status(USER, 0o600), OTHER, None)


@pytest.mark.parametrize(("found", "mode"), [(0o660, 0o600), (0o666, 0o660), (0o644, 0o600), (0o640, 0o660 & 0o606)])
def test_table_that_grants_more_is_refused(found: int, mode: int) -> None:
    """The owner does not matter."""
    with pytest.raises(OwnershipError, match=f"mode {found:#o} grants more than the {mode:#o}"):
        ownership.require_access("t", _status(0, found), Config(mode=mode))
    ownership.require_access("t", _status(0, mode), Config(mode=0o666))


def test_table_of_root_must_let_in_the_user_that_root_opens_it_for() -> None:
    """A server opens it as root and then switches to that user, which could not use it."""
    with pytest.raises(OwnershipError, match=f"mode 0o600 does not let uid {USER} in.*owner is uid 0.*unlink --name t"):
        ownership.require_access("t", _status(0, 0o600), Config(owner=USER))
    for owner, status in (
        (None, _status(0, 0o600)),
        ("root", _status(0, 0o600)),
        (USER, _status(USER, 0o600)),
        (USER, _status(0, 0o660)),
    ):
        ownership.require_access("t", status, Config(owner=owner, mode=0o660))


#: Prints whether a user trusts a file of each (uid, gid, mode) under each mode of its configuration.
_TRUST = f"""
import os
from shm_store import OwnershipError
from shm_store.table.host.ownership import require_trusted
def trusts(uid, gid, found, mode):
    try:
        require_trusted("t", os.stat_result((0o100000 | found, 1, 1, 1, uid, gid, 0, 0, 0, 0)), None, mode)
    except OwnershipError:
        return 0
    return 1
files = [({OTHER}, 50, 0o660), ({OTHER}, 51, 0o660), ({OTHER}, 50, 0o666), ({OTHER}, 51, 0o666), (0, 51, 0o600)]
print([[trusts(*file, mode) for file in files] for mode in (None, 0o600, 0o660, 0o666)])
"""


def test_groups_and_others_trust_by_mode(ground: Ground) -> None:
    """A member of the file's group trusts it where both modes grant the group access, and others likewise."""
    expected = [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 1, 1, 1]]
    for place in (Place(user=USER, group=50), Place(user=USER, groups=[49, 50])):
        assert ground.output(_TRUST, place) == str(expected)

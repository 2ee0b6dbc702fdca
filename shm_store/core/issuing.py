"""Issuing: the units of a shared limit that a host orders of a server, and those that the server issues to it."""

from __future__ import annotations

from typing import NamedTuple

from shm_store.core.algorithms import Algorithm
from shm_store.rate_info import RateInfo


class Order(NamedTuple):
    """A host's request for units, and the units that it returns with it.

    Attributes:
        host: Names the host.
        number: The number of the new lease, from 2**20 to 2**49.
        cost: Units that it needs now; 0: it only returns units.
        returned: The number of its last lease.
        unspent: Units of that lease which it did not spend.
        hosts: How many hosts there are.
        share: The part of the remaining units that all hosts together may have at once.
        most: Most units at once.
    """

    host: str
    number: int
    cost: int
    returned: int
    unspent: int
    hosts: int
    share: float
    most: int


class Issue(NamedTuple):
    """The units that the server has issued to a host.

    Attributes:
        info: The answer of the server.
        units: How many units; 0 if there were too few.
        algorithm: The algorithm that counts them: of the override, if the key has one.
        interval_ns: The interval of the same.
    """

    info: RateInfo
    units: int
    algorithm: type[Algorithm]
    interval_ns: int

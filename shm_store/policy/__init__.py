"""Policies: limits with names, what they cover and how they are kept, written in code or in a TOML file."""

from shm_store.policy.demands import require_countable, require_possible
from shm_store.policy.document import from_tables, load, loads
from shm_store.policy.paths import covering
from shm_store.policy.policy import Policy
from shm_store.policy.reading import read_toml
from shm_store.policy.running import PolicyFile, RunningPolicies, from_file

__all__ = [
    "Policy",
    "PolicyFile",
    "RunningPolicies",
    "covering",
    "from_file",
    "from_tables",
    "load",
    "loads",
    "read_toml",
    "require_countable",
    "require_possible",
]

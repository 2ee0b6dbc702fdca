"""Shows the settings and where each came from."""

from __future__ import annotations

from typing import Any

import msgspec

from service.app.conf import Loaded, masked
from shm_store import Quota
from shm_store.durations import to_text
from shm_store.policy import Policy


def as_table(loaded: Loaded) -> str:
    """Return tables for people: setting, value, source; and policy, limit, what differs from the default."""
    settings = [("SETTING", "VALUE", "SOURCE")]
    for name, value in msgspec.structs.asdict(loaded.settings).items():
        settings.append((name, "-" if value is None else str(masked(name, value)), loaded.sources[name]))
    policies = [("POLICY", "LIMIT", "MORE"), *(_row(policy) for policy in loaded.policies)]
    return f"{_aligned(settings)}\n\n{_aligned(policies)}"


def as_json(loaded: Loaded) -> str:
    """Return JSON for programs: by the name of each setting its `value` and its `source`, and a list `policies`."""
    values = msgspec.structs.asdict(loaded.settings)
    document: dict[str, Any] = {
        name: {"value": masked(name, value), "source": loaded.sources[name]} for name, value in values.items()
    }
    document["policies"] = [{"name": policy.name, **_said(policy)} for policy in loaded.policies]
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _aligned(rows: list[tuple[str, str, str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}".rstrip() for name, value, source in rows)


def _row(policy: Policy) -> tuple[str, str, str]:
    said = _said(policy)
    limit = said.pop("quota", None) or f"{said.pop('concurrency')} in flight"
    more = [
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in said.items()
    ]
    return policy.name, limit, "; ".join(more)


def _said(policy: Policy) -> dict[str, Any]:
    """Return the fields of a policy that are not their defaults, and its key, in the words of the file."""
    said: dict[str, Any] = {}
    limit = policy.limit
    if isinstance(limit, Quota):
        said = {"quota": f"{limit.limit}/{to_text(limit.interval_ns)}", "algorithm": limit.algorithm}
        if limit.burst is not None:
            said["burst"] = limit.burst
    else:
        said["concurrency"] = limit.limit
    said["key"] = list(policy.key)
    for field in msgspec.structs.fields(Policy):
        value = getattr(policy, field.name)
        if field.name not in {"name", "quota", "algorithm", "burst", "concurrency", "key"} and value != field.default:
            said[field.name] = list(value) if isinstance(value, tuple) else value
    return said

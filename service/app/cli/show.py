"""Shows the settings and where each came from."""

from __future__ import annotations

import msgspec

from service.app.conf import Loaded


def as_table(loaded: Loaded) -> str:
    """Return a table for people: setting, value, source."""
    rows = [("SETTING", "VALUE", "SOURCE")]
    for name, value in msgspec.structs.asdict(loaded.settings).items():
        rows.append((name, "-" if value is None else str(value), loaded.sources[name]))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows)


def as_json(loaded: Loaded) -> str:
    """Return JSON for programs: by the name of each setting its `value` and its `source`."""
    values = msgspec.structs.asdict(loaded.settings)
    document = {name: {"value": value, "source": loaded.sources[name]} for name, value in values.items()}
    return msgspec.json.format(msgspec.json.encode(document)).decode()

"""JSON schemas of the types that go in and out, made from the types themselves."""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec

from service.app.api.problems import Problem
from service.app.api.reading import attributes
from service.business.data import (
    Changed,
    Health,
    LimitPage,
    Link,
    LinkPage,
    NewBlock,
    NewLink,
    NewOverride,
    Pong,
    Status,
)
from shm_store.falcon import Problem as LimitProblem

_TYPES: Final = (Changed, Health, LimitPage, Link, LinkPage, NewBlock, NewLink, NewOverride, Pong, Problem, Status)
_TEMPLATE: Final = "#/components/schemas/{name}"
# Fields that go by another name than their attribute.
_ATTRIBUTES: Final = {"for": "duration", "violated-policies": "violated_policies"}


def components() -> dict[str, Any]:
    """Return the schemas of all bodies, by the names of their types."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_TEMPLATE)
    (_, limit_problem) = msgspec.json.schema_components([LimitProblem], ref_template=_TEMPLATE)
    described = {name: _described(schema) for name, schema in schemas.items()}
    # Denials have more members than other problems, and `instance`, which is written apart.
    described["LimitProblem"] = _described(limit_problem["Problem"])
    described["LimitProblem"]["properties"]["instance"] = {"type": "string", "description": "The path asked for."}
    return described


def parameters(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Return the fields of a query as parameters."""
    _, schemas = msgspec.json.schema_components([kind], ref_template=_TEMPLATE)
    properties: dict[str, dict[str, Any]] = _described(schemas[kind.__name__])["properties"]
    return [
        {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
        for name, schema in properties.items()
    ]


def reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return a reference to the schema of a type."""
    return {"$ref": _TEMPLATE.format(name=kind.__name__)}


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what its type's docstring says of each field, and with patterns as ECMA 262 has them."""
    text = inspect.cleandoc(schema.pop("description", ""))
    schema["description"] = text.partition("\n\n")[0].replace("\n", " ")
    said = attributes(text)
    for name, member in schema["properties"].items():
        attribute = _ATTRIBUTES.get(name, name)
        if attribute in said:
            member["description"] = said[attribute]
        for part in (member, *member.get("anyOf", ())):
            if "pattern" in part:
                part["pattern"] = part["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return schema

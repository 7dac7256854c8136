"""The JSON Schema of `x-nself-deploy` and its reference page, made from the types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nself_deploy.core.durations import SYNTAX, Duration, format_duration
from nself_deploy.core.extension import KEY, ProjectKeys, ServiceKeys, bounds
from nself_deploy.core.settings import DEFAULTS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a Compose file as far as `x-nself-deploy` goes: everything else in it is allowed."""
    (project, service), definitions = msgspec.json.schema_components(
        (ProjectKeys, ServiceKeys), schema_hook=_duration_schema, ref_template="#/$defs/{name}"
    )
    kinds: list[type[msgspec.Struct]] = [ProjectKeys, ServiceKeys, *_structs()]
    for kind in kinds:
        _tidy(definitions[kind.__name__], kind)
    return {
        "$schema": _DRAFT,
        "title": KEY,
        "description": f"The extension key {KEY} of a Compose file: of the whole project, and of each service.",
        "type": "object",
        "properties": {
            KEY: {"anyOf": [project, {"type": "null"}]},
            "services": {
                "type": "object",
                "additionalProperties": {
                    "type": ["object", "null"],
                    "properties": {KEY: {"anyOf": [service, {"type": "null"}]}},
                },
            },
        },
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The published file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """The published page, in Markdown: one table per mapping."""
    definitions = json_schema()["$defs"]
    parts = [_HEAD]
    for kind, title in _chapters():
        description = (kind.__doc__ or "").strip()
        parts.append(f"## {title}\n\n{description}\n")
        parts.append("| key | value | default | meaning |\n|---|---|---|---|")
        parts += [
            _row(kind, name, keys, definitions) for name, keys in definitions[kind.__name__]["properties"].items()
        ]
        parts.append("")
    return "\n".join(parts)


_HEAD = f"""# Configuration

Everything works by inference; what is inferred and why is shown by `nself deploy plan`. Settings that differ from the
defaults are written in the Compose file itself, under the key `{KEY}`, at the top level and in services. Compose
ignores that key, and doesn't merge it: of several files, the last one counts, whole. This
page and [x-nself-deploy.schema.json](x-nself-deploy.schema.json) are made from the types that read it
(`python tools/gen_schema.py`).

Durations are written as `30s`, `5m`, `1h30m`, `500ms`, or as a number of seconds. Unknown keys, wrong types and values
out of range are errors that name file, line and key; nothing is clamped. A 0 means the default, but for `standby`
and `bake`, where it means "not at all", and for `pause_expiry`, where it means "never".

A setting can also be given for one deploy: a flag wins over an environment variable, that over the Compose file, and
that over the default. `NSELF_DEPLOY_STRATEGY`, `NSELF_DEPLOY_HEALTH_TIMEOUT`, `NSELF_CANARY_PERCENT`,
`NSELF_CANARY_SOAK_MINUTES`, `NSELF_CANARY_ERROR_THRESHOLD` and `HEALTHCHECK_TIMEOUT_<SERVICE>` (the
service's name in capitals, with `_` for anything but letters and digits) are such variables.

```yaml
{KEY}:
  health_timeout: 1m
services:
  web:
    image: example/web:2
    {KEY}:
      probe: {{path: /healthz, statuses: [200, 299]}}
  uploads:
    image: example/uploads:5
    volumes: ["files:/srv"]
    {KEY}:
      role: app
```
"""


def _structs(kind: type[msgspec.Struct] | None = None) -> Iterator[type[msgspec.Struct]]:
    """The mappings inside the two outermost ones."""
    for outer in (kind,) if kind else (ProjectKeys, ServiceKeys):
        for field in msgspec.inspect.type_info(outer).fields:  # type: ignore[attr-defined]
            for found in _inside(field.type):
                yield found
                yield from _structs(found)


def _inside(info: msgspec.inspect.Type) -> Iterator[type[msgspec.Struct]]:
    if isinstance(info, msgspec.inspect.StructType):
        yield info.cls
    elif isinstance(info, msgspec.inspect.Metadata):
        yield from _inside(info.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for member in info.types:
            yield from _inside(member)
    elif isinstance(info, msgspec.inspect.VarTupleType):
        yield from _inside(info.item_type)


def _chapters() -> Iterator[tuple[type[msgspec.Struct], str]]:
    yield ProjectKeys, f"Top level: `{KEY}`"
    names = {
        "RouterKeys": "router",
        "HostKeys": "router.host",
        "RouteKeys": "routes[]",
        "AnalysisKeys": "analysis",
        "HoldKeys": "analysis.hold",
        "GraceKeys": "analysis.hold.grace",
        "LatencyKeys": "analysis.latency",
        "Prometheus": "analysis.prometheus",
        "MetricKeys": "analysis.metrics[]",
        "Condition": "analysis.metrics[].success",
        "OverrideKeys": "override",
        "BreakerKeys": "breaker",
        "AlertKeys": "alerts",
        "SloKeys": "slo[]",
        "SloQueryKeys": "slo[].prometheus",
    }
    for kind in dict.fromkeys(_structs(ProjectKeys)):
        yield kind, f"`{KEY}.{names[kind.__name__]}`"
    yield ServiceKeys, f"Services: `services.<name>.{KEY}`"
    for kind in _structs(ServiceKeys):
        yield kind, f"`services.<name>.{KEY}.probe`"


def _duration_schema(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {"type": ["string", "number"], "pattern": SYNTAX, "minimum": 0}
    raise NotImplementedError(kind)


def _tidy(definition: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """No `null` default for what may be left out, bounds of durations in words."""
    limits = bounds(kind)
    for name, keys in definition["properties"].items():
        if keys.get("default", 0) is None:
            del keys["default"]
        if name in limits:
            low, high = limits[name]
            for part in (keys, *keys.get("anyOf", ())):
                if "description" in part:
                    part["description"] += f" From {low} to {high}."


def _row(kind: type[msgspec.Struct], name: str, keys: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    description = " ".join(str(part["description"]) for part in (keys, *keys.get("anyOf", ())) if "description" in part)
    required = name in definitions[kind.__name__].get("required", ())
    default = "required" if required else _default(kind, name, keys)
    return f"| `{name}` | {_value(keys, definitions)} | {default} | {description} |"


def _default(kind: type[msgspec.Struct], name: str, keys: Mapping[str, Any]) -> str:
    if kind is ProjectKeys and f"{name}_s" in DEFAULTS:
        return f"`{format_duration(DEFAULTS[f'{name}_s'])}`"
    if kind is ProjectKeys and DEFAULTS.get(name):
        return f"`{DEFAULTS[name]}`"
    value = keys.get("default", "")
    return "" if value is None or value in ("", [], (), {}) else f"`{json.dumps(value).strip(chr(34))}`"


def _value(keys: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The kind of value, in words."""
    if "anyOf" in keys:
        return " or ".join(_value(part, definitions) for part in keys["anyOf"] if part.get("type") != "null")
    if "$ref" in keys:
        target = definitions[keys["$ref"].rsplit("/", 1)[1]]
        return ", ".join(f"`{value}`" for value in target["enum"]) if "enum" in target else "a mapping, see below"
    if keys.get("pattern") == SYNTAX:
        return "duration"
    if keys.get("type") == "array":
        items = keys.get("items")
        return f"list: {_value(items, definitions)}" if isinstance(items, Mapping) else "two numbers"
    if keys.get("type") == "object":
        return "a mapping of texts"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    text = words[keys["type"]]
    if "minimum" in keys:
        text += f", {keys['minimum']} to {keys['maximum']}"
    return text

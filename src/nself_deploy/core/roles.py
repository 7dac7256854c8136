"""Which service is what for a deploy, with the reason in words. Pure.

Doubtful means shared: duplicating a stateful service is the one mistake that loses data. What the user declares under
`x-nself-deploy` wins; a declaration that can't work is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nself_deploy.core.extension import KEY, Extension
from nself_deploy.core.key_places import Locate, nowhere, where
from nself_deploy.core.model import Role
from nself_deploy.core.router_role import find_router
from nself_deploy.core.service_facts import (
    Config,
    container_ports,
    dependencies,
    image_parts,
    link_aliases,
    mounts,
    restarts,
)
from nself_deploy.errors import ConfigError

DECLARED = "set by x-nself-deploy"

_FAMILIES = """postgres postgresql timescaledb mysql mariadb mongo mongodb redis valkey rabbitmq kafka elasticsearch
opensearch clickhouse minio cockroach"""
_STORES = """postgis pgvector timescale citus cockroachdb yugabyte percona mssql oracle db2 couchdb couchbase cassandra
scylla scylladb neo4j arangodb influxdb clickhouse-server questdb victoriametrics keydb dragonfly dragonflydb garnet
redict memcached redpanda zookeeper nats pulsar activemq artemis mosquitto emqx etcd consul vault solr meilisearch
typesense qdrant weaviate milvus chroma seaweedfs garage localstack azurite rethinkdb surrealdb eventstore immudb tidb
rqlite"""
_PLACES = "db database sql cache queue broker mq kv search s3 objectstore"

DATA_FAMILIES = frozenset(_FAMILIES.split())
"""Images that keep data, also as the first word of a longer name: `redis-stack-server`."""
DATA_STORES = DATA_FAMILIES | frozenset(_STORES.split())
"""Images that keep data, as a part of the image's path."""
DATA_NAMES = DATA_STORES | frozenset(_PLACES.split())
"""Names of services that keep data when other services depend on them."""
DATA_PORTS = {
    1433: "SQL Server", 1521: "Oracle", 2379: "etcd", 3306: "MySQL", 4222: "NATS", 5432: "PostgreSQL", 5672: "AMQP",
    6379: "Redis", 7687: "Neo4j", 9042: "Cassandra", 9092: "Kafka", 9200: "Elasticsearch", 11211: "memcached",
    26257: "CockroachDB", 27017: "MongoDB", 61616: "ActiveMQ",
}  # fmt: skip
_CLOCK_FILES = frozenset({"/etc/localtime", "/etc/timezone"})


class RoleChoice(msgspec.Struct, frozen=True):
    """A role and why."""

    role: Role
    reason: str


class Roles(msgspec.Struct, frozen=True):
    """The roles of all services."""

    choices: dict[str, RoleChoice]
    warnings: tuple[str, ...] = ()

    @property
    def router(self) -> str:
        """The router service, empty when no service is."""
        return next((name for name, choice in self.choices.items() if choice.role is Role.ROUTER), "")

    def of(self, role: Role) -> tuple[str, ...]:
        """The services of one role."""
        return tuple(name for name, choice in self.choices.items() if choice.role is role)


def infer_roles(services: Mapping[str, Config], extension: Extension, locate: Locate = nowhere) -> Roles:
    """The role of every service of a resolved model.

    Raises:
        ConfigError: two routers, no app service, or a declared role that can't work.
    """
    router = find_router(services, extension, locate)
    awaited = _awaited(services)
    dependents = _dependents(services)
    choices: dict[str, RoleChoice] = {}
    for name, config in sorted(services.items()):
        declared = extension.of(name).role
        if router and name == router.service:
            choices[name] = RoleChoice(Role.ROUTER, router.reason)
        elif declared:
            _check_declared(name, config, declared, locate)
            choices[name] = RoleChoice(declared, DECLARED)
        elif name in awaited and restarts(config) != "always":
            choices[name] = RoleChoice(Role.JOB, f"{awaited[name]} waits until it has completed")
        else:
            reason = _why_shared(name, config, dependents.get(name, ()))
            role = Role.SHARED if reason else Role.APP
            choices[name] = RoleChoice(role, reason or "keeps nothing: no volume, no data store, no place of its own")
    choices = _with_companions(services, choices, locate)
    _check_some_app(choices, locate)
    _check_links(services, choices, locate)
    return Roles(choices, tuple(_warnings(services, choices)))


def _awaited(services: Mapping[str, Config]) -> dict[str, str]:
    """Services whose completion another one waits for: name -> who waits."""
    return {
        wanted: name
        for name, config in sorted(services.items(), reverse=True)
        for wanted, condition in dependencies(config).items()
        if condition == "service_completed_successfully"
    }


def _dependents(services: Mapping[str, Config]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, config in sorted(services.items()):
        for wanted in dependencies(config):
            found[wanted] = (*found.get(wanted, ()), name)
    return found


def _why_shared(name: str, config: Config, dependents: tuple[str, ...]) -> str:
    """Why it must exist once; empty when nothing says so."""
    return (
        _singular_place(config) or _data_store(config) or _keeps_files(config) or _serves_data(name, config, dependents)
    )


def _singular_place(config: Config) -> str:
    mode = str(config.get("network_mode") or "")
    if _is_one_place(mode):
        return f"network_mode: {mode} is one place, two copies don't fit"
    outside = [str(entry) for entry in config.get("volumes_from") or () if str(entry).startswith("container:")]
    if outside:
        return f"volumes_from {outside[0]}: it uses the volumes of a container outside the project"
    if config.get("privileged"):
        return "privileged: it works on the machine itself"
    if config.get("devices"):
        return "devices: it holds hardware of the machine"
    return ""


def _is_one_place(network_mode: str) -> bool:
    """Whether the mode puts containers where there is room for one (a service of the project moves with its slot)."""
    return bool(network_mode) and network_mode != "none" and not network_mode.startswith("service:")


def _data_store(config: Config) -> str:
    image = str(config.get("image") or "")
    if not image:
        return ""
    parts = image_parts(image)
    found = next((part for part in (parts[-1:] if "build" in config else parts) if part in DATA_STORES), "")
    first = parts[-1].replace("_", "-").split("-")[0]
    if not found and "build" not in config and first in DATA_FAMILIES:
        found = first
    if not found:
        return ""
    return f"image {image} is a data store ({found})"


def _keeps_files(config: Config) -> str:
    for mount in mounts(config):
        if mount.read_only or mount.kind == "tmpfs" or (mount.kind == "volume" and not mount.source):
            continue
        if mount.kind == "bind" and mount.source in _CLOCK_FILES:
            continue
        if mount.kind == "bind":
            return f"bind mount at {mount.target} is writable (add :ro if it only reads)"
        return f"named volume {mount.source} at {mount.target}"
    return ""


def _serves_data(name: str, config: Config, dependents: tuple[str, ...]) -> str:
    port = next((port for port in sorted(container_ports(config)) if port in DATA_PORTS), 0)
    if port:
        return f"listens on {port} ({DATA_PORTS[port]})"
    if dependents and name in DATA_NAMES:
        return f"is named like a data store, and {', '.join(dependents)} depends on it"
    return ""


def _with_companions(
    services: Mapping[str, Config], choices: dict[str, RoleChoice], locate: Locate
) -> dict[str, RoleChoice]:
    """Services that share a network or volumes live together: all in the slots, or all outside of them."""
    found = dict(choices)
    pairs = [
        (name, *pair) for name, config in sorted(services.items()) for pair in _lenders(config) if pair[0] in found
    ]
    for _ in services:  # a chain of companions is no longer than that
        before = dict(found)
        for name, lender, what in pairs:
            roles = {found[name].role, found[lender].role}
            if Role.APP not in roles or len(roles) == 1:
                continue
            app, reason = (
                (name, f"uses the {what} of {lender}")
                if found[name].role is Role.APP
                else (lender, f"{name} uses its {what}")
            )
            if found[app].reason == DECLARED:
                raise ConfigError(
                    f"{name} uses the {what} of {lender}, so both are app services or neither is: "
                    f"{name} is {found[name].role}, {lender} is {found[lender].role}.",
                    "Give both the same role.",
                    where=where(locate, ("services", app, KEY, "role")),
                )
            found[app] = RoleChoice(Role.SHARED, reason)
        if found == before:
            break
    return found


def _lenders(config: Config) -> list[tuple[str, str]]:
    """Services whose network or volumes it uses."""
    mode = str(config.get("network_mode") or "")
    found = [(mode.removeprefix("service:"), "network")] if mode.startswith("service:") else []
    sources = (str(entry) for entry in config.get("volumes_from") or ())
    return [*found, *((entry.split(":", 1)[0], "volumes") for entry in sources if not entry.startswith("container:"))]


def _check_declared(name: str, config: Config, role: Role, locate: Locate) -> None:
    at = where(locate, ("services", name, KEY, "role"))
    mode = str(config.get("network_mode") or "")
    if role is Role.APP and _is_one_place(mode):
        raise ConfigError(
            f"{name} can't be an app service with network_mode: {mode}, two versions can't run side by side in it.",
            "Put it on a network of the project, or set `role: shared`.",
            where=at,
        )
    if role is Role.JOB and restarts(config) == "always":
        raise ConfigError(
            f"{name} can't be a job: its restart policy never lets it complete.", 'Set `restart: "no"`.', where=at
        )


def _check_some_app(choices: Mapping[str, RoleChoice], locate: Locate) -> None:
    if any(choice.role is Role.APP for choice in choices.values()):
        return
    raise ConfigError(
        "There is no app service, so there is nothing to deploy.",
        "Set `x-nself-deploy: {role: app}` on the services of which each version has its own containers.",
        where=where(locate, ("services",)),
        evidence=tuple(f"{name}: {choice.role} ({choice.reason})" for name, choice in choices.items()),
    )


def _check_links(services: Mapping[str, Config], choices: Mapping[str, RoleChoice], locate: Locate) -> None:
    for name, choice in choices.items():
        if choice.role not in (Role.APP, Role.JOB):
            continue
        for alias, target in sorted(link_aliases(services[name]).items()):
            if target in choices and choices[target].role is not Role.APP:
                raise ConfigError(
                    f"{name} reaches {target} as {alias!r} through `links`, which ends at the border of a project.",
                    f"Give {target} that name for all: `networks: {{default: {{aliases: [{alias}]}}}}`.",
                    where=where(locate, ("services", name, "links")),
                )


def _warnings(services: Mapping[str, Config], choices: Mapping[str, RoleChoice]) -> list[str]:
    found = []
    for name, choice in choices.items():
        config = services[name]
        if choice.role is Role.APP:
            reason = _data_store(config) or _keeps_files(config)
            if reason:
                found.append(f"{name}: {reason}; as an app service, both versions use it at the same time")
            found += [
                f"{name}: the files at {mount.target} are the same for both versions (read-only mount)"
                for mount in mounts(config)
                if mount.read_only and mount.kind in ("bind", "volume") and mount.source not in _CLOCK_FILES
            ]
        if choice.role in (Role.SHARED, Role.JOB):
            apps = [wanted for wanted in dependencies(config) if choices[wanted].role is Role.APP]
            if apps and choice.role is Role.SHARED:
                found.append(f"{name}: is shared, and can't reach {', '.join(apps)} by name once these run in slots")
            elif apps:
                found.append(f"{name}: runs before {', '.join(apps)} of its release, and can't reach it")
    return found

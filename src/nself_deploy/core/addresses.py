"""Fixed addresses: which host number a replica has in its slot network, and which subnets slot networks get.

A container keeps its address as long as its service exists, in both slots, so what nginx holds never comes to mean
another container. Fixed addresses are in the lower half of a subnet; the engine hands out the upper half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Network

from nself_deploy.core.model import Release, Role
from nself_deploy.errors import ConfigError

AddressKey = tuple[str, str, int]
"""Compose network, service, replica (from 1)."""

Addresses = dict[AddressKey, int]
"""The host number of each replica in a network's twins: the same in both slots."""

DEFAULT_POOL = "10.213.0.0/16"
SUBNET_PREFIX = 24
FIRST_HOST = 2
"""Host 1 is the gateway."""
HOSTS = 1 << (32 - SUBNET_PREFIX - 1)
"""Addresses in the lower half of a subnet; fixed ones are `FIRST_HOST` to `HOSTS - 1`."""
REMEMBERED = 4096
"""Answers about subnets that are kept: the same ones are asked for at every look at a slot."""


def allocate(existing: Mapping[AddressKey, int], wanted: Iterable[AddressKey]) -> Addresses:
    """All of `existing`, and a host number for each of `wanted` that has none yet (the lowest free one).

    A number is never given away while it is recorded, also when its service is gone: drop the record to free it.

    Raises:
        ConfigError: a network has no number left.
    """
    result = dict(existing)
    taken: dict[str, set[int]] = {}
    for (network, _, _), number in existing.items():
        taken.setdefault(network, set()).add(number)
    for key in sorted(set(wanted) - set(existing)):
        network = key[0]
        used = taken.setdefault(network, set())
        host = next((n for n in range(FIRST_HOST, HOSTS) if n not in used), None)
        if host is None:
            raise ConfigError(
                f"network {network!r} has no fixed address left for service {key[1]!r}: "
                f"a slot network has room for {HOSTS - FIRST_HOST} containers.",
                "Use fewer replicas, or spread the services over more networks.",
            )
        used.add(host)
        result[key] = host
    return result


def wanted_addresses(release: Release) -> set[AddressKey]:
    """What a release needs: one address per app service, network and replica."""
    return {
        (network, service.name, replica)
        for service in release.services.values()
        if service.role is Role.APP and not service.config.get("network_mode")
        for network in service.networks
        for replica in range(1, service.replicas + 1)
    }


@lru_cache(REMEMBERED)
def address_in(subnet: str, host: int) -> str:
    """The IPv4 address of host number `host` in `subnet` (CIDR)."""
    network = IPv4Network(subnet)
    if not 0 < host < network.num_addresses:
        raise ValueError(f"there is no host {host} in {subnet}")
    return str(network[host])


@lru_cache(REMEMBERED)
def gateway_of(subnet: str) -> str:
    """The address of the bridge itself: the first one, outside `ip_range`."""
    return str(IPv4Network(subnet)[1])


@lru_cache(REMEMBERED)
def ip_range_of(subnet: str) -> str:
    """The upper half of `subnet`, from which the engine may hand out addresses itself."""
    return str(list(IPv4Network(subnet).subnets(prefixlen_diff=1))[1])


def subnets_of(pool: str) -> Iterator[str]:
    """The subnets of a pool (CIDR), in order.

    Raises:
        ConfigError: it isn't an IPv4 network of at least one subnet.
    """
    try:
        network = IPv4Network(pool)
        parts = network.subnets(new_prefix=SUBNET_PREFIX)
        first = next(parts)
    except ValueError as error:
        raise ConfigError(
            f"{pool!r} is not a pool of addresses for slot networks: {error}.",
            f"Use an IPv4 network of /{SUBNET_PREFIX} or larger, e.g. {DEFAULT_POOL}.",
        ) from error
    yield str(first)
    for part in parts:
        yield str(part)

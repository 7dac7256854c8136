"""Fixed addresses stay, are never shared, and run out with words that help."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.addresses import (
    FIRST_HOST,
    HOSTS,
    address_in,
    allocate,
    gateway_of,
    ip_range_of,
    subnets_of,
    wanted_addresses,
)
from nself_deploy.core.model import Role
from nself_deploy.errors import ConfigError
from tests.unit.slot_examples import project, release, service

keys = st.tuples(st.sampled_from(["default", "back"]), st.sampled_from(["web", "api", "worker"]), st.integers(1, 9))


@given(st.lists(st.sets(keys), max_size=6))
def test_numbers_stay_and_are_never_shared(rounds: list[set[tuple[str, str, int]]]) -> None:
    """Whatever comes and goes, a recorded number keeps its owner and nobody else gets it."""
    known: dict[tuple[str, str, int], int] = {}
    for wanted in rounds:
        after = allocate(known, wanted)

        assert known.items() <= after.items()
        assert wanted <= set(after)
        assert len({(key[0], host) for key, host in after.items()}) == len(after)
        assert all(FIRST_HOST <= host < HOSTS for host in after.values())
        known = after


@given(st.lists(keys, unique=True))
def test_the_order_of_asking_does_not_matter(wanted: list[tuple[str, str, int]]) -> None:
    """The same wishes give the same numbers."""
    assert allocate({}, wanted) == allocate({}, reversed(wanted))


def test_a_full_network_is_an_error() -> None:
    """126 containers fit; the next one is refused by name, and other networks are not touched by it."""
    full = allocate({}, [("default", "web", n) for n in range(1, HOSTS - FIRST_HOST + 1)])

    assert sorted(full.values()) == list(range(FIRST_HOST, HOSTS))
    assert allocate(full, [("back", "api", 1)])["back", "api", 1] == FIRST_HOST
    with pytest.raises(ConfigError, match=r"'default' has no fixed address left for service 'api'.*fewer replicas"):
        allocate(full, [("default", "api", 1)])


def test_a_dropped_record_is_free_again() -> None:
    """Who forgets a record on purpose frees its number."""
    assert allocate({("default", "web", 2): 3}, [("default", "api", 1)])["default", "api", 1] == 2


def test_a_release_wants_an_address_for_each_replica_of_its_apps_on_each_network() -> None:
    """Jobs get whatever the engine hands out, and so does nothing that has no network of its own."""
    services = [
        service("web", replicas=2, networks=("default", "back")),
        service("migrate", role=Role.JOB),
        service("agent", {"network_mode": "service:web"}, networks=()),
        service("db", role=Role.SHARED),
    ]

    assert wanted_addresses(release(project(services))) == {
        ("default", "web", 1),
        ("default", "web", 2),
        ("back", "web", 1),
        ("back", "web", 2),
    }


def test_halves_of_a_subnet() -> None:
    """Fixed addresses and those that the engine hands out are apart, and the gateway is neither."""
    subnet = "10.213.4.0/24"
    fixed = {address_in(subnet, host) for host in range(FIRST_HOST, HOSTS)}
    handed_out = {str(a) for a in IPv4Network(ip_range_of(subnet))}

    assert address_in(subnet, 2) == "10.213.4.2"
    assert not fixed & handed_out
    assert gateway_of(subnet) not in fixed | handed_out
    with pytest.raises(ValueError, match="no host 256"):
        address_in(subnet, 256)


def test_a_pool_is_cut_into_subnets() -> None:
    """In order, each once; what is no pool is refused."""
    subnets = list(subnets_of("10.213.0.0/16"))

    assert (subnets[0], subnets[-1], len(subnets)) == ("10.213.0.0/24", "10.213.255.0/24", 256)
    assert list(subnets_of("10.1.2.0/24")) == ["10.1.2.0/24"]
    for bad in ("10.213.0.0/25", "10.213.0.1/16", "fd00::/64", "pool", ""):
        with pytest.raises(ConfigError, match="not a pool of addresses"):
            next(subnets_of(bad))

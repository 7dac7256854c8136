"""Slot networks on the engine: made with a free subnet of our pool, by whoever comes first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from nself_deploy.adapters.docker_client import NOT_FOUND, DockerClient, Refused
from nself_deploy.adapters.docker_read import read_network, subnets_in_use
from nself_deploy.core.addresses import gateway_of, ip_range_of, subnets_of
from nself_deploy.core.model import LABEL_NETWORK, LABEL_PROJECT, LABEL_SLOT, Slot, SlotNetwork
from nself_deploy.errors import EngineError

if TYPE_CHECKING:
    import aiodocker

_IN_USE = 403
_CONFLICT = 409


class SlotNetworks:
    """Networks that belong to slots.

    Args:
        pool: CIDR of the addresses for slot networks; each gets a /24 of it.
    """

    def __init__(self, client: DockerClient, pool: str) -> None:
        self._client = client
        self._pool = pool

    async def of_project(self, project: str) -> list[SlotNetwork]:
        """The slot networks of a project, by name."""
        wanted = {"label": [f"{LABEL_PROJECT}={project}"]}
        answers = await self._client.run("list networks", lambda d: d.networks.list(filters=wanted))
        found = (read_network(answer) for answer in answers)
        return sorted((n for n in found if n is not None), key=lambda n: n.name)

    async def ensure(self, project: str, slot: Slot, network: str, name: str, internal: bool) -> SlotNetwork:
        """The network `name`, made when it isn't there. Safe when several processes do it at once.

        Raises:
            EngineError: it isn't ours, has other properties and is in use, or no subnet is free.
        """
        labels = {LABEL_PROJECT: project, LABEL_SLOT: slot.value, LABEL_NETWORK: network}
        subnets: Iterator[str] | None = None
        for _ in range(2 * len(list(subnets_of(self._pool))) + 8):
            found = await self.named(name)
            if found:
                kept = await self._checked(await self._only_one(found), labels, internal)
                if kept is not None:
                    return kept
                continue
            subnets = subnets or await self._free_subnets()
            subnet = next(subnets, "")
            if not subnet:
                raise EngineError(
                    f"no subnet of {self._pool} is free for the network {name!r}.",
                    "Remove networks that nobody needs (`docker network prune`), or set another pool.",
                )
            await self._create(name, subnet, labels, internal)
        raise EngineError(f"network {name!r} could not be made: other networks come and go meanwhile.", "Try again.")

    async def remove(self, name: str) -> None:
        """Remove a slot network; one that is gone is fine.

        Raises:
            EngineError: it isn't ours, or containers are attached to it.
        """
        for answer in await self.named(name):
            if LABEL_PROJECT not in (answer.get("Labels") or {}):
                raise EngineError(
                    f"network {name!r} was not made by nself-deploy, so it is not removed.",
                    f"Remove it with `docker network rm {name}` if nobody needs it.",
                )
            await self._delete(name, answer["Id"], fine=(NOT_FOUND,))

    async def named(self, name: str) -> list[dict[str, Any]]:
        """All networks of exactly this name (an engine may hold several), with their containers, oldest first."""
        listed = await self._client.run("list networks", lambda d: d.networks.list(filters={"name": [name]}))
        found = []
        for answer in listed:
            if answer["Name"] == name:
                shown = await self._inspected(answer["Id"])
                found += [shown] if shown is not None else []
        return sorted(found, key=lambda n: (n["Created"], n["Id"]))

    async def connect(self, network: str, container: str, aliases: Sequence[str]) -> None:
        """Attach a container; one that is attached already is fine."""
        config: dict[str, Any] = {"Container": container}
        if aliases:
            config["EndpointConfig"] = {"Aliases": list(aliases)}

        async def connect(docker: aiodocker.Docker) -> None:
            await (await docker.networks.get(network)).connect(config)

        if await self._attached(network, container):
            return
        try:
            await self._client.run(f"connect {container} to network {network!r}", connect)
        except Refused:
            # Somebody else may have done it between the question and the call.
            if not await self._attached(network, container):
                raise

    async def _attached(self, network: str, container: str) -> bool:
        answer = await self._client.run_or_none(
            f"inspect container {container}", lambda d: d.containers.container(container).show()
        )
        return answer is not None and network in (answer["NetworkSettings"].get("Networks") or {})

    async def _inspected(self, network_id: str) -> dict[str, Any] | None:
        async def show(docker: aiodocker.Docker) -> dict[str, Any]:
            return await (await docker.networks.get(network_id)).show()

        return await self._client.run_or_none(f"inspect network {network_id}", show)

    async def _delete(self, name: str, network_id: str, fine: Collection[int]) -> None:
        async def delete(docker: aiodocker.Docker) -> None:
            await (await docker.networks.get(network_id)).delete()

        await self._client.run_or_none(f"remove network {name!r}", delete, fine=fine)

    async def _free_subnets(self) -> Iterator[str]:
        answers = await self._client.run("list networks", lambda d: d.networks.list())
        used = [IPv4Network(s, strict=False) for s in subnets_in_use(answers)]
        return (s for s in subnets_of(self._pool) if not any(IPv4Network(s).overlaps(u) for u in used))

    async def _create(self, name: str, subnet: str, labels: Mapping[str, str], internal: bool) -> None:
        """Try to make it; somebody else's network of this name or with this subnet is no error."""
        config = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Internal": internal,
            "Labels": dict(labels),
            "IPAM": {"Config": [{"Subnet": subnet, "IPRange": ip_range_of(subnet), "Gateway": gateway_of(subnet)}]},
        }
        try:
            await self._client.run(f"create network {name!r}", lambda d: d.networks.create(config))
        except Refused as error:
            if error.status != _CONFLICT and "overlap" not in error.what:
                raise

    async def _only_one(self, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Of networks with one name: the oldest. The others are removed unless somebody uses them."""
        for spare in found[1:]:
            if not spare.get("Containers") and LABEL_PROJECT in (spare.get("Labels") or {}):
                await self._delete(spare["Name"], spare["Id"], fine=(NOT_FOUND, _IN_USE))
        return found[0]

    async def _checked(self, answer: dict[str, Any], labels: Mapping[str, str], internal: bool) -> SlotNetwork | None:
        """The network when it is as it should be; None when it was removed to be made anew."""
        name = answer["Name"]
        theirs = answer.get("Labels") or {}
        network = read_network(answer)
        if network is None or any(theirs.get(key) != value for key, value in labels.items()):
            raise EngineError(
                f"there is a network {name!r} that is not the slot network it should be.",
                f"Look at it with `docker network inspect {name}`, and remove it if nobody needs it.",
            )
        if network.internal == internal and network.ip_range == ip_range_of(network.subnet):
            return network
        if answer.get("Containers"):
            raise EngineError(
                f"network {name!r} has other settings than it needs now, and containers are attached to it.",
                "Remove what is in the slot, disconnect the router from it, and try again.",
            )
        await self.remove(name)
        return None

"""What starts when: `depends_on` within a slot."""

from __future__ import annotations

from typing import Any

from nself_deploy.core.model import Role, Service
from nself_deploy.core.start_order import Stage, stages


def _service(name: str, **config: Any) -> Service:
    return Service(name=name, role=Role.APP, reason="for a test", config=config)


def test_services_that_need_nothing_of_each_other_start_together() -> None:
    assert stages([_service("web"), _service("api", depends_on={"db": {"condition": "service_healthy"}})]) == (
        Stage(("api", "web"), ()),
    )


def test_what_must_be_healthy_first_is_waited_for_before_the_next_stage() -> None:
    found = stages(
        [
            _service("web", depends_on={"api": {"condition": "service_healthy"}, "pages": None}),
            _service("api", depends_on=["auth"]),
            _service("pages"),
            _service("auth"),
        ]
    )

    assert found == (Stage(("auth", "pages"), ()), Stage(("api",), ()), Stage(("web",), ("api",)))


def test_sharing_a_namespace_or_volumes_is_a_dependency_too() -> None:
    sidecar = _service("sidecar", network_mode="service:web", volumes_from=["files:ro"])

    assert stages([sidecar, _service("web"), _service("files")]) == (
        Stage(("files", "web"), ()),
        Stage(("sidecar",), ()),
    )


def test_a_circle_ends_the_search() -> None:
    circle = [_service("a", depends_on=["b"]), _service("b", depends_on=["a"]), _service("c")]

    assert stages(circle) == (Stage(("c",), ()), Stage(("a", "b"), ()))

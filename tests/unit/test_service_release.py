"""Going back with one service: which release is the prior one, and one that differs from the live one in it alone."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core.machine import Outcome, Run, new_run
from nself_deploy.core.model import PinnedImage, Release
from nself_deploy.core.plan import Facts, Kind, Timing, plan_blue_green
from nself_deploy.core.service_release import prior_release, version_of, with_service
from tests.unit.plans import a_project, a_release

NOW = "2026-11-23T00:00:00Z"


def release(name: str, **versions: str) -> Release:
    """A release with other images of some services."""
    base = a_release(name)
    images = {n: PinnedImage(f"sha256:{n}{versions.get(n, '')}", f"{n}:1") for n in base.services}
    return msgspec.structs.replace(base, images=images)


def ran(new: str, before: str, kind: Kind = Kind.DEPLOY, outcome: Outcome = Outcome.DONE, target: str = "prod") -> Run:
    plan = plan_blue_green(a_project(), a_release(new), Facts(live_release=before), Timing(), target)
    run = new_run(f"{new}-{before}", msgspec.structs.replace(plan, kind=kind), NOW)
    return msgspec.structs.replace(run, outcome=outcome)


RELEASES = {
    r.id: r
    for r in (release("r1"), release("r2", web="2"), release("r3", web="2", api="3"), release("r4", web="4", api="3"))
}


def prior(live: str, service: str, *history: Run, environment: str = "prod") -> str:
    found = prior_release(RELEASES[live], service, environment, history, RELEASES.get)
    return found.id if found else ""


DEPLOYS = (ran("r4", "r3"), ran("r3", "r2"), ran("r2", "r1"), ran("r1", ""))


def test_the_prior_version_is_the_newest_other_one_of_that_service() -> None:
    assert prior("r4", "web", *DEPLOYS) == "r3"
    assert prior("r4", "api", *DEPLOYS) == "r2", "r3 has the same api"
    assert prior("r4", "migrate", *DEPLOYS) == ""


def test_failed_runs_other_environments_and_forgotten_releases_do_not_count() -> None:
    assert prior("r4", "web", ran("r4", "r3", outcome=Outcome.FAILED), ran("r3", "r1")) == "r1"
    assert prior("r4", "web", ran("r4", "r3", target="staging")) == ""
    assert prior("r4", "web", ran("r4", "r3", target="staging"), environment="staging") == "r3"
    assert prior("r4", "web", ran("r4", "gone"), ran("gone", "r1")) == "r1"


def test_what_was_deployed_last_for_another_environment_is_left_alone() -> None:
    history = (ran("r4", "r3"), ran("r3", "r2", target="staging"), ran("r2", "r1", target="staging"))
    assert prior("r4", "web", *history, environment="staging") == ""
    assert prior("r4", "web", *history) == "r3"
    assert prior("r4", "web", ran("r4", "r1", Kind.ROLLBACK, target="local"), *history) == "r3", "no deploy"


def test_a_version_that_was_rolled_back_from_is_the_last_choice() -> None:
    back = ran("r2", "r4", Kind.ROLLBACK)
    assert prior("r2", "web", back, *DEPLOYS) == "r1"
    assert prior("r2", "web", back) == "r4"


def test_a_release_that_differs_in_nothing_else_is_taken_as_it_is() -> None:
    assert with_service(RELEASES["r4"], RELEASES["r3"], "web", NOW, ("ann", "here")) == RELEASES["r3"]


def test_else_a_new_one_has_that_service_of_the_old_and_all_others_of_the_live_one() -> None:
    live, old = RELEASES["r4"], RELEASES["r2"]
    made = with_service(live, old, "api", NOW, ("ann", "here"))

    assert version_of(made, "api") == version_of(old, "api") != version_of(live, "api")
    assert all(version_of(made, name) == version_of(live, name) for name in live.services if name != "api")
    assert (
        made.id not in RELEASES and (made.created_by, made.created_on) == ("ann", "here") and made.routes == live.routes
    )
    assert with_service(live, old, "api", "2027-01-01T00:00:00Z", ("bob", "there")).fingerprint == made.fingerprint


@pytest.mark.parametrize("change", [{"replicas": 3}, {"config": {"environment": {"A": "1"}}}])
def test_configuration_makes_another_version(change: dict[str, object]) -> None:
    base = RELEASES["r1"]
    web = msgspec.structs.replace(base.services["web"], **change)
    other = msgspec.structs.replace(base, services={**base.services, "web": web})

    assert version_of(other, "web") != version_of(base, "web")
    assert version_of(base, "nothing") == ""

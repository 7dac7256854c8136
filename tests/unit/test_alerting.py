"""What is done about notifications: who is rolled back, what is tried again, and what is never done twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.app.alerting import Alerting
from nself_deploy.app.keys import Denied, Grant
from nself_deploy.app.service_rollback import document_of
from nself_deploy.app.serving import Ended, Serving
from nself_deploy.core.alerts import Alert, Live, Rules, Taken, unwanted
from nself_deploy.core.deploy_keys import Reason
from nself_deploy.core.rollback import STATUS, Request, RollbackUIState, ServiceRollback
from nself_deploy.core.web import Answer, Asked
from nself_deploy.errors import EngineError, Exit, StateFileError
from tests.unit.serving_scene import notification

State = RollbackUIState


class Project:
    """A project as the answers see it: its rollbacks end as the test says, and are counted."""

    def __init__(self, *ends: State | int) -> None:
        self.ends = list(ends)
        self.rolled_back: list[Request] = []
        self.alerts: list[tuple[Alert, ...]] = []
        self.settled: dict[str, str] = {}
        self.keys = {"good": None, "web only": "web"}
        self.facts: Live | None = Live("two", ("api", "web"), "2026-11-27T02:01:00Z")
        self.at_work = 0
        self.raises: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    async def authorize(self, key: str, environment: str, service: str, source: str) -> Grant | Denied:
        if key == "limited":
            return Denied(Reason.LIMITED, "Too many.", "Later.", 3.2)
        if key not in self.keys:
            return Denied(Reason.WRONG if key else Reason.MISSING, "No.", "")
        only = self.keys[key]
        return Denied(Reason.SCOPE, "Not for that.", "") if only not in (None, service) else Grant("k1", key)

    async def roll_back(self, request: Request, key: str, source: str, alerts: tuple[Alert, ...] = ()) -> Ended:
        if self.raises is not None:
            raise self.raises
        self.at_work += 1
        assert self.at_work == 1
        await asyncio.sleep(0)
        self.meanwhile()
        self.at_work -= 1
        gone = bool(alerts) and len(await self.unwanted(list(alerts), request.service)) == len(alerts)
        if not gone:
            self.rolled_back.append(request)
            self.alerts.append(alerts)
        end = self.ends.pop(0) if self.ends else State.POPULATED
        ui_state, status = (end, int(STATUS[end])) if isinstance(end, State) else (State.ERROR, end)
        state = ServiceRollback(ui_state, request.service, request.environment, exit_status=status)
        return Ended(state, document_of(state, None), unwanted=gone)

    async def state(self, request: Request) -> ServiceRollback | None:
        return None

    async def rules(self) -> Rules:
        return Rules()

    async def live(self, service: str) -> Live | None:
        return self.facts

    async def unwanted(self, alerts: list[Alert], service: str) -> dict[str, tuple[Taken, str]]:
        over: dict[str, tuple[Taken, str] | None] = dict.fromkeys(self.settled, (Taken.REPEATED, "over"))
        found = {a.id: over.get(a.id) or unwanted(a, self.facts, Rules(), []) for a in alerts}
        return {name: why for name, why in found.items() if why is not None}

    async def settle(self, alerts: list[Alert], ui_state: str) -> None:
        self.settled |= {alert.id: ui_state for alert in alerts}


def asked(key: str, *alerts: dict[str, Any], body: bytes | None = None) -> Asked:
    sent = json.dumps(notification(*alerts)).encode() if body is None else body
    header = (f"Bearer {key}",) if key else ()
    return Asked("POST", "/v1/alertmanager", "127.0.0.1", {}, header, "application/json", "", sent)


async def told(project: Project, key: str, *alerts: dict[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    answer = await Serving(project, "1", Alerting(project).answer).answer(asked(key, *alerts))
    return answer.status, outcomes(answer)


def outcomes(answer: Answer) -> list[tuple[str, str]]:
    return [(line.outcome, line.ui_state) for line in getattr(answer.document, "alerts", ())]


WEB: dict[str, Any] = {}
API: dict[str, Any] = {"labels": {"alertname": "Slow", "service": "api"}, "fingerprint": "a"}


async def test_several_alerts_about_one_service_are_one_rollback_with_both_in_its_reason() -> None:
    project = Project()

    assert await told(project, "good", WEB, {"fingerprint": "b"}, API) == (200, [("rollback", "populated")] * 3)
    assert [request.service for request in project.rolled_back] == ["web", "api"]
    assert "[0123456789abcdef " in project.rolled_back[0].reason and "[b " in project.rolled_back[0].reason
    assert project.rolled_back[0].environment == "prod" and len(project.settled) == 3


@pytest.mark.parametrize(
    ("end", "status", "over"),
    [
        (State.POPULATED, 200, True),
        (State.EMPTY, 200, True),
        (State.RATE_LIMITED, 200, True),
        (int(Exit.FAILED), 200, True),
        (int(Exit.USAGE), 200, True),
        (State.OFFLINE, 503, False),
        (State.LOADING, 503, False),
        (int(Exit.LOCKED), 503, False),
        (int(Exit.PARKED), 503, False),
        (int(Exit.INFRASTRUCTURE), 503, False),
    ],
)
async def test_what_may_pass_is_tried_again_and_what_is_over_is_not(end: State | int, status: int, over: bool) -> None:
    project = Project(end)

    assert (await told(project, "good", WEB))[0] == status
    again = await told(project, "good", WEB)
    assert again == (200, [("repeated", "")] if over else [("rollback", "populated")])


async def test_the_same_alert_many_times_at_once_is_one_rollback() -> None:
    project = Project()
    serving = Serving(project, "1", Alerting(project).answer)
    answers = await asyncio.gather(*(serving.answer(asked("good", WEB)) for _ in range(20)))

    assert len(project.rolled_back) == 1
    assert sorted(outcomes(answer)[0][0] for answer in answers) == ["repeated"] * 19 + ["rollback"]


async def test_an_alert_that_another_program_has_answered_meanwhile_rolls_nothing_back() -> None:
    project = Project()

    def other() -> None:
        project.facts = Live("one", ("web",), "2026-11-27T02:02:30Z", by_rollback=True)

    project.meanwhile = other
    assert await told(project, "good", WEB) == (200, [("before-release", "")])
    assert project.rolled_back == [] and project.settled == {}


async def test_keys() -> None:
    project = Project()

    assert (await told(project, "", WEB))[0] == 401
    assert (await told(project, "bad", WEB, API))[0] == 401
    assert (await told(project, "limited", WEB))[0] == 503
    assert project.rolled_back == []
    assert await told(project, "web only", WEB, API) == (403, [("rollback", "populated"), ("denied", "")])


async def test_what_can_not_be_asked_is_worth_another_try_and_a_broken_journal_is_not_the_clients_fault() -> None:
    project = Project()
    project.raises = EngineError("away")
    assert (await told(project, "good", WEB))[0] == 503
    project.raises = StateFileError("broken")
    assert (await told(project, "good", WEB))[0] == 500
    assert project.settled == {}


async def test_while_it_stops_it_takes_nothing() -> None:
    serving = Serving(Project(), "1", Alerting(Project()).answer)
    serving.stopping = True

    assert (await serving.answer(asked("good", WEB))).status == 503
    assert (await serving.answer(Asked("GET", "/healthz", "here"))).status == 503


NAMES = st.sampled_from(["web", "api", "gone", ""])
ALERTS = st.lists(
    st.tuples(NAMES, st.sampled_from("abc"), st.integers(0, 3), st.booleans()).map(
        lambda drawn: {
            "labels": {"service": drawn[0]},
            "fingerprint": drawn[1],
            "startsAt": f"2026-11-27T02:0{drawn[2]}:00Z",
            "status": "firing" if drawn[3] else "resolved",
        }
    ),
    max_size=6,
)
ENDS = st.lists(st.sampled_from([*State, int(Exit.FAILED), int(Exit.LOCKED)]), max_size=6)


@given(rounds=st.lists(ALERTS, max_size=6), ends=ENDS)
def test_whatever_is_told_an_alert_that_is_over_never_rolls_back_again(
    rounds: list[list[dict[str, Any]]], ends: list[State | int]
) -> None:
    async def play() -> None:
        project = Project(*ends)
        serving = Serving(project, "1", Alerting(project).answer)
        for alerts in rounds:
            over, before = set(project.settled), len(project.alerts)
            answer = await serving.answer(asked("good", *alerts))
            for done in project.alerts[before:]:
                assert not over & {alert.id for alert in done}
                assert all(alert.firing and alert.starts_at >= "2026-11-27T02:01:00" for alert in done)
                over |= {alert.id for alert in done if alert.id in project.settled}
            assert answer.status in (200, 503) and len(outcomes(answer)) == len(alerts)

    asyncio.run(play())

"""Who is dead, who lives, and who has to be watched: the owner of a lock on the engine, from all that is known."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.docker_lock_volumes import read_locks
from nself_deploy.core.lock_rules import (
    UNKNOWN,
    Generation,
    Life,
    LockOwner,
    Patience,
    Sign,
    in_sight,
    judge,
    next_number,
    refusal,
    take_over,
)
from nself_deploy.errors import Exit

HERE = LockOwner("ann", "one", 10, "boot-1", "", "2026-11-26T12:00:00.000Z", "machine-1", "pid:[1]", "500")
OWNER = LockOwner("bob", "one", 20, "boot-1", "deploy", "2026-11-26T11:00:00.000Z", "machine-1", "pid:[1]", "400")
LIMITS = Patience()
FRESH, OLD = Sign(5, 0), Sign(10_000, 10_000)


def changed(**fields: str) -> LockOwner:
    return msgspec.structs.replace(OWNER, **fields)


def life(owner: LockOwner, sign: Sign = FRESH, *, process: bool = False) -> Life:
    return judge(owner, HERE, process=process, sign=sign, patience=LIMITS).life


@pytest.mark.parametrize("sign", [FRESH, OLD])
def test_of_an_owner_in_sight_the_process_decides_alone(sign: Sign) -> None:
    assert in_sight(OWNER, HERE)
    assert life(OWNER, sign, process=True) is Life.ALIVE
    assert life(OWNER, sign, process=False) is Life.DEAD


@pytest.mark.parametrize(
    "fields",
    [
        {"boot_id": "boot-2"},
        {"boot_id": ""},
        {"machine": "machine-2"},
        {"machine": ""},
        {"pid_space": "pid:[2]"},
        {"pid_space": ""},
        {"started": ""},
    ],
)
def test_a_process_that_we_can_not_look_for_proves_nothing(fields: dict[str, str]) -> None:
    assert not in_sight(changed(**fields), HERE)
    assert life(changed(**fields), FRESH) is Life.ALIVE
    assert life(changed(**fields), OLD) is Life.DEAD


@pytest.mark.parametrize(
    ("fields", "sign", "expected"),
    [
        ({"boot_id": "boot-2"}, Sign(29, 29), Life.ALIVE),
        ({"boot_id": "boot-2"}, Sign(30, 0), Life.SUSPECT),
        ({"boot_id": "boot-2"}, Sign(30, 15), Life.DEAD),
        ({"boot_id": "boot-2", "machine": "machine-2"}, Sign(89, 89), Life.ALIVE),
        ({"boot_id": "boot-2", "machine": "machine-2"}, Sign(90, 0), Life.SUSPECT),
        ({"boot_id": "boot-2", "machine": "machine-2"}, Sign(90, 14), Life.SUSPECT),
        ({"boot_id": "boot-2", "machine": "machine-2"}, Sign(90, 15), Life.DEAD),
        ({"boot_id": "boot-2", "machine": ""}, Sign(40, 40), Life.ALIVE),
        # The engine's clock went back by an hour: then our own watching decides.
        ({"machine": "machine-2"}, Sign(-3600, 89), Life.ALIVE),
        ({"machine": "machine-2"}, Sign(-3600, 90), Life.DEAD),
    ],
)
def test_silence_proves_it_after_its_time_and_only_when_it_was_watched(
    fields: dict[str, str], sign: Sign, expected: Life
) -> None:
    assert life(changed(**fields), sign) is expected


@given(
    age=st.floats(-1e6, 1e6),
    watched=st.floats(0, 14.9),
    machine=st.sampled_from(["", "machine-1", "machine-2"]),
    boot=st.sampled_from(["", "boot-2"]),
)
def test_nobody_dies_of_age_alone(age: float, watched: float, machine: str, boot: str) -> None:
    assert life(changed(machine=machine, boot_id=boot), Sign(age, watched)) is not Life.DEAD


def test_machines_without_an_id_are_not_one_machine() -> None:
    here = msgspec.structs.replace(HERE, machine="")
    owner = changed(machine="", boot_id="boot-2")

    assert judge(owner, here, process=False, sign=Sign(40, 40), patience=LIMITS).life is Life.ALIVE


def test_a_new_number_is_above_all_and_free() -> None:
    found = [Generation(n, str(n), OWNER, "") for n in (2, 5)]

    assert next_number([]) == 1
    assert next_number(found) == 6
    assert next_number(found, {6, 7}) == 8


def test_a_refusal_names_the_owner_and_what_to_do() -> None:
    refused = refusal(OWNER, "prod", "there")

    assert refused.exit_status is Exit.LOCKED and refused.purpose == "deploy"
    for word in ("bob", "one", "20", "deploy", OWNER.since):
        assert word in refused.what
    assert "--wait" in refused.remedy and "end process 20 on one" in refused.remedy
    assert "another process works on this project" in refusal(UNKNOWN, "", "there").what


def test_a_take_over_says_whose_it_was_and_how_that_is_known() -> None:
    words = take_over(OWNER, "its process is gone")

    assert words.startswith("the lock was taken over from bob on one (process 20)")
    assert words.endswith("since 2026-11-26T11:00:00.000Z: its process is gone")


def labels(number: str, token: str, **more: str) -> dict[str, object]:
    names = {f"nself.deploy.lock.{key}": value for key, value in more.items()}
    ours = {"nself.deploy.lock": "local", "nself.deploy.lock.number": number, "nself.deploy.lock.token": token}
    return {"Name": "x", "CreatedAt": f"at {number}", "Labels": ours | names}


def test_volumes_are_read_by_their_labels() -> None:
    owner = msgspec.json.encode(OWNER).decode()
    found = read_locks(
        [
            labels("10", "b", owner=owner),
            labels("2", "a", owner="{"),
            labels("10", "b", beat="12"),
            labels("10", "b", beat="9"),
            labels("10", "old", beat="3"),
            labels("7", "gone", beat="1"),
            labels("", "c", owner=owner),
            labels("-1", "c", owner=owner),
            {"Name": "none", "Labels": None},
        ]
    )

    assert [(g.number, g.token, g.owner, g.created) for g in found.generations] == [
        (2, "a", UNKNOWN, "at 2"),
        (10, "b", OWNER, "at 10"),
    ]
    assert [g.newest for g in found.generations] == [(0, "at 2"), (12, "at 10")]
    assert found.strays == ((7, 1), (10, 3))
    assert found.of("b") == found.generations[1] and found.of("c") is None

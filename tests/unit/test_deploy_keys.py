"""Deploy keys: what is kept of them, what they open, and that a wrong one costs as much as any other."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import deploy_keys
from nself_deploy.core.deploy_keys import ANY, DeployKey, Reason, Scope, digest_of, find, judge, line_of, spelled

NOW = "2026-11-27T03:00:00.000Z"
SECRETS = [bytes([n]) * 32 for n in range(1, 6)]
WORDS = st.sampled_from(["api", "web", "prod", "staging", "rollback", "deploy"])


def a_key(secret: bytes = SECRETS[0], **changes: object) -> DeployKey:
    scope = Scope(("prod",), ("api",), ("rollback",))
    key = DeployKey(f"k{secret[0]}", "watch", digest_of(spelled(secret)), scope, "2026-11-01T00:00:00.000Z")
    return msgspec.structs.replace(key, **changes)


def judged(key: DeployKey | None, *asked: str, now: str = NOW, shown: str = spelled(SECRETS[0])) -> Reason | None:
    return judge(shown, key, *(asked or ("rollback", "prod", "api")), now)


def test_a_key_is_a_prefix_and_256_random_bits() -> None:
    key = spelled(bytes(range(32)))

    assert re.fullmatch(r"nself_deploy_[0-9a-f]{64}", key)
    with pytest.raises(ValueError, match="32 random bytes, not 16"):
        spelled(b"0" * 16)


def test_nothing_that_is_kept_or_shown_holds_the_key() -> None:
    key, text = a_key(), spelled(SECRETS[0])
    event = deploy_keys.key_event("key-created", key)
    shown = msgspec.json.encode([line_of(key, NOW), event])

    assert text not in msgspec.json.encode(key).decode()
    assert text.encode() not in shown and key.digest.encode() not in shown


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was compared, by the function that takes the same time for all."""
    seen: list[tuple[str, str]] = []
    real = deploy_keys.compare_digest

    def compare(one: str, other: str) -> bool:
        seen.append((one, other))
        return real(one, other)

    monkeypatch.setattr(deploy_keys, "compare_digest", compare)
    return seen


KEYS = [a_key(secret) for secret in SECRETS]
SHOWN = ["", "x", spelled(b"z" * 32), spelled(b"z" * 32)[:-1], "é" * 9000, "\udcff", *map(spelled, SECRETS)]


@pytest.mark.parametrize("kept", [0, 1, 5])
@pytest.mark.parametrize("shown", SHOWN, ids=range(len(SHOWN)))
def test_whatever_is_shown_is_compared_with_every_key_to_the_end(
    shown: str, kept: int, compared: list[tuple[str, str]]
) -> None:
    found = find(shown, KEYS[:kept])

    assert len(compared) == kept + 1
    assert {len(word) for pair in compared for word in pair} == {64}
    assert len({one for one, _ in compared}) == 1
    assert [found] == [key for key in KEYS[:kept] if spelled(SECRETS[KEYS.index(key)]) == shown] or found is None


def test_each_key_is_found_by_itself_alone() -> None:
    assert [find(spelled(secret), KEYS) for secret in SECRETS] == KEYS
    assert find(spelled(SECRETS[0]) + "0", KEYS) is None
    assert find(spelled(SECRETS[0]).upper(), KEYS) is None
    assert find(spelled(SECRETS[0]), KEYS[1:]) is None


@given(st.lists(WORDS), st.lists(WORDS), st.lists(WORDS), WORDS, WORDS, WORDS)
def test_a_scope_covers_what_it_names_in_each_of_three_ways(
    environments: list[str], services: list[str], actions: list[str], action: str, environment: str, service: str
) -> None:
    covered = Scope(tuple(environments), tuple(services), tuple(actions)).covers(action, environment, service)

    assert covered is (environment in environments and service in services and action in actions)
    everything = Scope((ANY,), (ANY,), (ANY,))
    assert everything.covers(action, environment, service)
    assert not Scope((), (ANY,), (ANY,)).covers(action, environment, service)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (a_key(), None),
        (None, Reason.WRONG),
        (a_key(revoked_at=NOW), Reason.REVOKED),
        (a_key(expires_at=NOW), Reason.EXPIRED),
        (a_key(expires_at="2026-11-27T03:00:00.001Z"), None),
        (a_key(scope=Scope(("staging",), ("api",), ("rollback",))), Reason.SCOPE),
        (a_key(scope=Scope(("prod",), ("web",), ("rollback",))), Reason.SCOPE),
        (a_key(scope=Scope(("prod",), ("api",), ("deploy",))), Reason.SCOPE),
        (a_key(scope=Scope(("prod",), ("api",), ("rollback",)), revoked_at=NOW, expires_at=NOW), Reason.REVOKED),
    ],
)
def test_each_kind_of_bad_key(key: DeployKey | None, reason: Reason | None) -> None:
    assert judged(key) is reason
    assert judged(key, shown="") is Reason.MISSING


def test_a_clock_that_was_set_back_brings_no_key_back_to_life() -> None:
    key = a_key(expires_at="2026-11-27T03:00:00.000Z")
    late = deploy_keys.used(key, Reason.EXPIRED, "2026-11-27T03:00:01.000Z", "here", "")

    assert judged(key, now="2026-11-27T02:00:00.000Z") is None
    assert judged(late, now="2026-11-27T02:00:00.000Z") is Reason.EXPIRED
    assert judged(key, now="2020-01-01T00:00:00.000Z") is None
    assert deploy_keys.used(late, None, "2026-11-27T02:00:00.000Z", "here", "").seen_at == "2026-11-27T03:00:01.000Z"


def test_a_word_means_an_id_or_all_that_work_of_a_name() -> None:
    keys = [a_key(), a_key(SECRETS[1], revoked_at=NOW), a_key(SECRETS[2]), a_key(SECRETS[3], name="k1")]

    assert deploy_keys.named("k1", keys) == [keys[0]]
    assert deploy_keys.named("watch", keys) == [keys[0], keys[2]]
    assert deploy_keys.named("k2", keys) == [keys[1]]
    assert deploy_keys.named("nope", keys) == []

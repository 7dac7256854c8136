"""Effective settings: who wins, what counts as missing, what is refused."""

from __future__ import annotations

import pytest

from nself_deploy.core.extension import ProjectKeys
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Strategy
from nself_deploy.core.settings import DEFAULTS, resolve_settings, service_timeouts, service_variable
from nself_deploy.errors import Exit, UsageError


def _project(**keys: object) -> ProjectKeys:
    return read_extension({"x-nself-deploy": keys}).project


def test_the_contracts_defaults() -> None:
    settings = resolve_settings({}, {})

    assert settings.health_timeout_s == 30
    assert settings.min_uptime_s == 7
    assert settings.drain_s == 60
    assert settings.standby_s == 600
    assert (settings.initial_percent, settings.soak_minutes, settings.error_threshold_pct) == (10, 5, 1.0)
    assert settings.target == "local"
    assert set(settings.origins.values()) == {"default"}
    assert set(settings.origins) == set(DEFAULTS)


def test_flag_beats_environment_beats_project_beats_default() -> None:
    flags: dict[str, object] = {"health_timeout_s": "11s"}
    env = {"NSELF_DEPLOY_HEALTH_TIMEOUT": "12"}
    project = _project(health_timeout="13s")

    assert resolve_settings(flags, env, project).health_timeout_s == 11
    assert resolve_settings({}, env, project).health_timeout_s == 12
    assert resolve_settings({}, {}, project, source="compose.yaml").health_timeout_s == 13
    assert resolve_settings(flags, env, project).origins["health_timeout_s"] == "flag"
    assert resolve_settings({}, env, project).origins["health_timeout_s"] == "environment NSELF_DEPLOY_HEALTH_TIMEOUT"
    assert resolve_settings({}, {}, project, source="compose.yaml").origins["health_timeout_s"] == "compose.yaml"


def test_zero_or_empty_means_the_next_one() -> None:
    env = {"NSELF_DEPLOY_HEALTH_TIMEOUT": "", "NSELF_CANARY_PERCENT": "0", "NSELF_CANARY_SOAK_MINUTES": "0"}
    settings = resolve_settings({"health_timeout_s": 0, "drain_s": None}, env, _project(health_timeout="40s", drain=0))

    assert settings.health_timeout_s == 40
    assert (settings.drain_s, settings.initial_percent, settings.soak_minutes) == (60, 10, 5)


def test_zero_standby_is_a_value() -> None:
    assert resolve_settings({"standby_s": "0"}, {}).standby_s == 0
    assert resolve_settings({}, {}, _project(standby="0s")).standby_s == 0
    assert resolve_settings({}, {}, _project(standby="0s")).origins["standby_s"] == "docker-compose.yml"


def test_a_random_split_can_be_said_in_two_ways() -> None:
    for keys in ({"split": "random"}, {"sticky": "random"}, {"split": "random", "sticky": "random"}):
        assert resolve_settings({}, {}, _project(**keys)).sticky == "random"
    assert resolve_settings({}, {}, _project(split="sticky", sticky="cookie:a")).sticky == "cookie:a"
    assert resolve_settings({"sticky": "client"}, {}, _project(split="random")).sticky == "client"
    assert resolve_settings({}, {}, _project(split="random")).origins["sticky"] == "docker-compose.yml"


def test_documented_variables() -> None:
    env = {
        "NSELF_CANARY_PERCENT": "25",
        "NSELF_CANARY_SOAK_MINUTES": "7.5",
        "NSELF_CANARY_ERROR_THRESHOLD": "0.5",
        "NSELF_DEPLOY_HEALTH_TIMEOUT": "2m",
        "NSELF_DEPLOY_STRATEGY": "canary",
    }
    settings = resolve_settings({}, env)

    assert (settings.initial_percent, settings.soak_minutes, settings.error_threshold_pct) == (25, 7.5, 0.5)
    assert (settings.health_timeout_s, settings.strategy) == (120, Strategy.CANARY)
    assert settings.origins["strategy"] == "environment NSELF_DEPLOY_STRATEGY"


def test_production_is_prod() -> None:
    assert resolve_settings({"target": "production"}, {}).target == "prod"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("NSELF_CANARY_PERCENT", "100", "1 to 99"),
        ("NSELF_CANARY_PERCENT", "-5", "1 to 99"),
        ("NSELF_CANARY_PERCENT", "ten", "not a whole number"),
        ("NSELF_CANARY_PERCENT", "10.5", "not a whole number"),
        ("NSELF_CANARY_SOAK_MINUTES", "soon", "not a duration"),
        ("NSELF_CANARY_ERROR_THRESHOLD", "101", "0.001 to 100"),
        ("NSELF_CANARY_ERROR_THRESHOLD", "nan", "not a number"),
        ("NSELF_DEPLOY_HEALTH_TIMEOUT", "2h", "1s to 1h"),
        ("NSELF_DEPLOY_HEALTH_TIMEOUT", "quick", "not a duration"),
        ("NSELF_DEPLOY_STRATEGY", "bluegreen", "blue-green"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        resolve_settings({}, {variable: value})

    assert caught.value.where == variable
    assert caught.value.exit_status is Exit.USAGE
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("health_timeout_s", "0.5s", "--health-timeout"),
        ("drain_s", "2h", "--drain"),
        ("initial_percent", 100, "--canary"),
        ("strategy", "ramp", "--strategy"),
        ("target", "Prod!", "TARGET"),
        ("sticky", "cookie:", "--sticky"),
        ("subnet_pool", "8.8.0.0/16", "--subnet-pool"),
    ],
)
def test_a_bad_flag_is_named(field: str, value: object, flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_settings({field: value}, {})

    assert caught.value.where == flag


def test_a_bad_value_is_an_error_even_when_a_weaker_one_would_do() -> None:
    with pytest.raises(UsageError, match="NSELF_CANARY_PERCENT"):
        resolve_settings({}, {"NSELF_CANARY_PERCENT": "500"}, _project(drain="5s"))


def test_the_listing_has_every_setting_with_its_origin() -> None:
    listing = {s.name: s for s in resolve_settings({"drain_s": "90s"}, {}).listing()}

    assert listing["drain"].value == "1m30s"
    assert listing["drain"].origin == "flag"
    assert listing["strategy"].value == "blue-green"
    assert len(listing) == len(DEFAULTS)


def test_time_outs_of_services() -> None:
    env = {"HEALTHCHECK_TIMEOUT_MY_API": "90", "HEALTHCHECK_TIMEOUT_WEB": "2m", "HEALTHCHECK_TIMEOUT_GONE": "1s"}

    assert service_variable("my-api.v2") == "HEALTHCHECK_TIMEOUT_MY_API_V2"
    assert service_timeouts(env, ["my-api", "web", "db"]) == {"my-api": 90, "web": 120}


def test_a_bad_time_out_of_a_service_names_its_variable() -> None:
    with pytest.raises(UsageError) as caught:
        service_timeouts({"HEALTHCHECK_TIMEOUT_WEB": "1d"}, ["web"])

    assert caught.value.where == "HEALTHCHECK_TIMEOUT_WEB"

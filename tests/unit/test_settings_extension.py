"""`x-nself-deploy`: what it may say, and what is said about what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nself_deploy.adapters.yaml_positions import Positions
from nself_deploy.core.extension import OverrideKeys
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Activate, Protocol, Role, Strategy
from nself_deploy.core.schema import json_schema, reference_text, schema_text
from nself_deploy.errors import ConfigError, Exit

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _model(top: Any = None, **services: Any) -> dict[str, Any]:
    return {"x-nself-deploy": top, "services": {name: {"x-nself-deploy": keys} for name, keys in services.items()}}


def test_nothing_said_is_all_defaults() -> None:
    extension = read_extension({"services": {"web": {"image": "web"}, "api": {"x-nself-deploy": None}}})

    assert extension.project.health_timeout is None
    assert extension.of("web").role is None
    assert extension.of("unknown").role is None


def test_reads_everything() -> None:
    top = {
        "strategy": "blue-green",
        "router": {"service": "edge", "probe_port": 9000, "networks": ["front"]},
        "routes": [{"service": "api", "port": 9000, "protocol": "grpc", "path": "/rpc", "host": "api.example.org"}],
        "health_timeout": "45s",
        "min_uptime": 3,
        "drain": "2m",
        "standby": "1h",
        "sticky": "cookie:shop_split",
        "override": {"word": "only-testers-know-this", "header": "X-Shop-Slot", "cookie": "shop_slot"},
        "subnet_pool": "10.99.0.0/16",
    }
    web = {"role": "app", "health_timeout": "90s", "probe": {"path": "/up", "statuses": [200, 299], "timeout": "2s"}}
    extension = read_extension(_model(top, web=web, worker={"activate": "on-live"}))

    assert extension.project.strategy is Strategy.BLUE_GREEN
    assert extension.project.router is not None
    assert extension.project.router.probe_port == 9000
    assert extension.project.routes[0].protocol is Protocol.GRPC
    assert extension.project.health_timeout == 45
    assert extension.project.min_uptime == 3
    assert extension.project.override == OverrideKeys("only-testers-know-this", "X-Shop-Slot", "shop_slot")
    probe = extension.of("web").probe
    assert probe is not None
    assert (probe.path, probe.statuses, probe.timeout) == ("/up", (200, 299), 2)
    assert extension.of("web").role is Role.APP
    assert extension.of("worker").activate is Activate.ON_LIVE


def test_composes_escapes_are_undone() -> None:
    assert read_extension(_model(web={"probe": {"path": "/a$$b"}})).of("web").probe.path == "/a$b"  # type: ignore[union-attr]


WORD = "only-testers-know-this"
BAD = [
    # top level, expected place, expected words
    ({"helth_timeout": "30s"}, "x-nself-deploy.helth_timeout", "Did you mean health_timeout?"),
    ({"analyses": {}}, "x-nself-deploy.analyses", "Did you mean analysis?"),
    ("on", "x-nself-deploy", "'on' is not a mapping"),
    ([], "x-nself-deploy", "not a mapping"),
    ({"health_timeout": "soon"}, "x-nself-deploy.health_timeout", "'soon' is not a duration"),
    ({"health_timeout": ["30s"]}, "x-nself-deploy.health_timeout", "is not a duration"),
    ({"health_timeout": "500ms"}, "x-nself-deploy.health_timeout", "From 1s to 1h"),
    ({"health_timeout": "2h"}, "x-nself-deploy.health_timeout", "2h is out of range"),
    ({"standby": "2d"}, "x-nself-deploy.standby", "At most 1d"),
    ({"strategy": "bluegreen"}, "x-nself-deploy.strategy", "Did you mean blue-green?"),
    ({"sticky": "cookie:a b"}, "x-nself-deploy.sticky", "'cookie:a b' is not possible"),
    ({"split": "randomly"}, "x-nself-deploy.split", "Did you mean random?"),
    ({"split": "random", "sticky": "cookie:a"}, "x-nself-deploy.split", "exclude each other"),
    ({"override": {"header": "X-Slot"}}, "x-nself-deploy.override", "'word' is missing"),
    ({"override": {"word": WORD}}, "x-nself-deploy.override", "neither a header nor a cookie"),
    ({"override": {"word": "guessed", "header": "X-Slot"}}, "x-nself-deploy.override", "not 16 to 36 letters"),
    ({"override": {"word": f"{WORD} ", "header": "X-Slot"}}, "x-nself-deploy.override", "not 16 to 36 letters"),
    ({"override": {"word": 1234567890123456, "header": "X"}}, "x-nself-deploy.override.word", "'***' is not text"),
    ({"override": {"word": f"{WORD}\n", "header": "X"}}, "x-nself-deploy.override.word", "'***' has control"),
    ({"override": WORD}, "x-nself-deploy.override", "'***' is not a mapping"),
    ({"override": {"word": WORD, "header": "X Slot"}}, "x-nself-deploy.override.header", "'X Slot' is not possible"),
    ({"override": {"word": WORD, "cookie": "a-b"}}, "x-nself-deploy.override.cookie", "'a-b' is not possible"),
    ({"subnet_pool": "10.0.0.0/30"}, "x-nself-deploy.subnet_pool", "too small"),
    ({"subnet_pool": "8.8.0.0/16"}, "x-nself-deploy.subnet_pool", "not a private range"),
    ({"subnet_pool": "10.0.0.1/16"}, "x-nself-deploy.subnet_pool", "host bits"),
    ({"alerts": {"servces": {}}}, "x-nself-deploy.alerts.servces", "Did you mean services?"),
    ({"alerts": {"services": {"a": 1}}}, "x-nself-deploy.alerts.services", "{'a': 1} is not text"),
    ({"alerts": {"match": ["page"]}}, "x-nself-deploy.alerts.match", "is not a mapping"),
    ({"alerts": {"environment": "mars"}}, "x-nself-deploy.alerts.environment", "local, staging, prod"),
    ({"alerts": {"service_label": "a-b"}}, "x-nself-deploy.alerts.service_label", "'a-b' is not possible"),
    ({"alerts": {"echo": "2d"}}, "x-nself-deploy.alerts.echo", "At most 1d"),
    ({"router": {"service": "edge", "host": {}}}, "x-nself-deploy.router", "either a service"),
    ({"router": {"host": {"configg": "/x"}}}, "x-nself-deploy.router.host.configg", "Did you mean config?"),
    ({"router": {"host": {"config": "nginx.conf"}}}, "x-nself-deploy.router.host.config", "'nginx.conf'"),
    ({"router": {"probe_port": 70000}}, "x-nself-deploy.router.probe_port", "at most 65535"),
    ({"routes": {"service": "web"}}, "x-nself-deploy.routes", "is not a list"),
    ({"routes": [{"service": "web"}]}, "x-nself-deploy.routes[0]", "'port' is missing"),
    ({"routes": [{"service": "web", "port": 0}]}, "x-nself-deploy.routes[0].port", "at least 1"),
    ({"routes": [{"service": "web", "port": "80"}]}, "x-nself-deploy.routes[0].port", "'80' is not a whole number"),
    ({"routes": [{"service": "web", "port": 1, "protocol": "ftp"}]}, "x-nself-deploy.routes[0].protocol", "fastcgi"),
    ({"routes": [{"service": "web", "port": 1, "path": "/a\n}"}]}, "x-nself-deploy.routes[0].path", "control char"),
]


@pytest.mark.parametrize(("top", "place", "words"), BAD)
def test_a_mistake_at_the_top_names_the_key_the_value_and_the_remedy(top: Any, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_extension(_model(top))

    assert caught.value.where == place
    assert words in str(caught.value)
    assert WORD not in str(caught.value) and "123456" not in str(caught.value)
    assert caught.value.exit_status is Exit.USAGE


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"rolle": "app"}, "rolle", "Did you mean role?"),
        ({"role": "stateful"}, "role", "shared"),
        ({"probe": {"statuses": [200]}}, "probe.statuses", "length 2"),
        ({"probe": {"statuses": [499, 200]}}, "probe.statuses", "lower one first"),
        ({"probe": {"statuses": [200, 700]}}, "probe.statuses[1]", "at most 599"),
        ({"probe": {"timeout": "2m"}}, "probe.timeout", "From 100ms to 1m"),
        ({"probe": {"path": "up"}}, "probe.path", "'up'"),
        ({"activate": True}, "activate", "True"),
        ({"health_timeout": False}, "health_timeout", "False is not a duration"),
        ("app", "", "not a mapping"),
    ],
)
def test_a_mistake_in_a_service_names_it(keys: Any, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_extension(_model(None, web=keys))

    assert caught.value.where == "services.web.x-nself-deploy" + (f".{place}" if place else "")
    assert words in str(caught.value)


def test_the_place_has_file_and_line(tmp_path: Path) -> None:
    base, override = tmp_path / "docker-compose.yml", tmp_path / "prod.yml"
    base.write_text("x-nself-deploy:\n  drain: 1m\n\n  health_timeout: 30s\nservices:\n  web:\n    image: web\n")
    override.write_text("services:\n  web:\n    x-nself-deploy:\n      # why\n      role: ap\n")
    locate = Positions(str(tmp_path), (str(base), str(override)))

    with pytest.raises(ConfigError) as first:
        read_extension(_model({"drain": "1m", "health_timeout": "3h"}), locate)
    with pytest.raises(ConfigError) as second:
        read_extension(_model(None, web={"role": "ap"}), locate)

    assert first.value.where == "docker-compose.yml:4: x-nself-deploy.health_timeout"
    assert second.value.where == "prod.yml:5: services.web.x-nself-deploy.role"


def test_a_place_that_is_not_in_the_file_itself_still_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(
        "x-all: &all\n  x-nself-deploy: {role: ap}\nservices:\n  web:\n    <<: *all\n    image: !reset null\n"
    )
    locate = Positions(str(tmp_path), (str(file),))

    assert locate(("services", "web", "x-nself-deploy", "role")) in ("compose.yaml:2", "compose.yaml:4")
    assert locate(("x-nself-deploy",)) == "compose.yaml"
    file.write_text("services: [")
    assert Positions(str(tmp_path), (str(file),))(("services",)) == "compose.yaml"


def test_the_published_reference_is_current() -> None:
    remedy = "run: python tools/gen_schema.py"

    assert (REFERENCE / "x-nself-deploy.schema.json").read_text(encoding="utf-8") == schema_text(), remedy
    assert (REFERENCE / "configuration.md").read_text(encoding="utf-8") == reference_text(), remedy


def test_the_schema_knows_every_key_that_is_read() -> None:
    definitions = json_schema()["$defs"]
    required = {"service": "web", "port": 80}

    for name in definitions["ProjectKeys"]["properties"]:
        assert _is_known(_model({name: {}}), name)
    for name in definitions["ServiceKeys"]["properties"]:
        assert _is_known(_model(None, web={name: {}}), name)
    for name in definitions["RouteKeys"]["properties"]:
        assert _is_known(_model({"routes": [required | {name: {}}]}), name)


def _is_known(model: dict[str, Any], name: str) -> bool:
    """A value of the wrong type is refused as a value, not as a key."""
    try:
        read_extension(model)
    except ConfigError as error:
        return f"Unknown key {name!r}" not in str(error)
    return True

"""What a real Prometheus says about a real exporter, and what is made of it when it says nothing or does not answer."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from nself_deploy.adapters.prometheus import MAX_ANSWER, PrometheusMetrics
from nself_deploy.core.evidence import Verdict
from nself_deploy.core.metrics import Condition, Metric, Missing, Outcome, Prometheus, Reading, fill
from nself_deploy.core.metrics_judge import MetricsJudge, explain_metrics
from nself_deploy.errors import ConfigError
from tests.real.prometheus_parts import Exporter, Server, program

pytestmark = pytest.mark.real

GREEN = {"slot": "green", "live_slot": "blue", "release": "r2", "live_release": "r1", "project": "shop"}
LAST = "last_over_time({}[5m])"
"""A query that has its value also when the last scrape came too late: then a series counts as gone until the next."""
GREEN_RATIO = LAST.format('ratio{slot="green"}')
RATIO = Metric("failed checkouts", LAST.format('ratio{slot="{{slot}}"}'), success=Condition(below=0.01))
PASSWORD = "a pass:word"
BCRYPT = "$2b$04$OMw7ThHG/rfWN3O7Y2kU0.vG/9JCzrc6vJ8V5KNxijpvTRuQS1oJ2"
MANY = 8000


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    made = Exporter(tmp_path_factory.mktemp("exporter") / "one")
    made.write(ratio__green=0.001)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("prometheus") / "one", exporter)
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def server(shared: Server) -> Server:
    """It runs and has asked the exporter at least once."""
    await shared.shows("up", lambda reading: reading.value == 1)
    return shared


async def measure(judge: MetricsJudge, metrics: PrometheusMetrics, times: int = 3) -> Verdict:
    """Ask for what is due, so many times; time is what the judge wants it to be."""
    for _ in range(times):
        if judge.decision is not None:
            break
        at = min(tally.due for tally in judge.tallies)
        for metric in judge.due(at):
            judge.measured(metric.name, at, await metrics.ask(fill(metric.query, GREEN, metric.window_s)))
    return judge.verdict


async def test_a_good_candidate_passes_and_a_bad_one_fails(server: Server, exporter: Exporter) -> None:
    exporter.write(ratio__green=0.001, ratio__blue=0.5)
    await server.shows(LAST.format('ratio{slot="blue"}'), lambda reading: reading.value == 0.5)
    judge = MetricsJudge.begin((RATIO,))

    assert await measure(judge, server.metrics(), 2) is Verdict.INCONCLUSIVE
    assert await measure(judge, server.metrics(), 1) is Verdict.PASS

    exporter.write(ratio__green=0.25)
    await server.shows(GREEN_RATIO, lambda reading: reading.value == 0.25)
    assert await measure(judge, server.metrics(), 2) is Verdict.INCONCLUSIVE
    assert await measure(judge, server.metrics(), 1) is Verdict.FAIL
    assert judge.decision is not None
    assert judge.decision.reason == (
        "the metric failed checkouts was bad 3 times in a row: 0.25 at last, and below 0.01 is wanted"
    )


async def test_it_says_what_was_at_another_time(server: Server, exporter: Exporter) -> None:
    exporter.write(of_the_past=1)
    await server.shows("of_the_past", lambda reading: reading.value == 1)
    before = (await server.shows("timestamp(of_the_past)", lambda reading: reading.value is not None)).value
    exporter.write(of_the_past=2)
    await server.shows("of_the_past", lambda reading: reading.value == 2)

    assert before is not None
    assert (await server.metrics().ask("of_the_past", before)).value == 1
    assert (await server.metrics().ask("of_the_past", before - 86400)).outcome is Outcome.NO_DATA


async def test_rates_of_counters_over_the_window(server: Server, exporter: Exporter) -> None:
    rate = "sum(rate({}{{slot='{{{{slot}}}}'}}[{{{{window}}}}]))"
    query = f"{rate.format('failed_total')} / {rate.format('requests_total')}"
    metric = Metric("errors", query, failure=Condition(above=0.05), window_s=10.0, successes=1, failures_in_a_row=1)

    async def goes_on() -> None:
        for count in itertools.count(1):
            exporter.write(requests_total__green=10 * count, failed_total__green=count)
            await asyncio.sleep(0.1)

    users = asyncio.create_task(goes_on())
    try:
        await server.shows(fill(query, GREEN, metric.window_s), lambda reading: reading.value is not None)
        judge = MetricsJudge.begin((metric,))
        assert await measure(judge, server.metrics(), 1) is Verdict.FAIL
    finally:
        users.cancel()
    [evidence] = explain_metrics(judge, 3.0)
    assert evidence.value == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    ("missing", "verdict"),
    [(Missing.WAIT, Verdict.INCONCLUSIVE), (Missing.INVALID, Verdict.INVALID), (Missing.FAIL, Verdict.FAIL)],
)
@pytest.mark.parametrize("query", ["nobody_has_this", "vector(0) / 0"], ids=["no series", "NaN"])
async def test_no_data_is_never_a_success(server: Server, query: str, missing: Missing, verdict: Verdict) -> None:
    judge = MetricsJudge.begin((Metric("odd", query, success=Condition(above=-1), missing=missing),))

    assert await measure(judge, server.metrics(), 10) is verdict
    [evidence] = explain_metrics(judge, judge.now)
    assert (evidence.good, evidence.value) == (0, None)


async def test_nan_and_infinity_of_an_exporter(server: Server, exporter: Exporter) -> None:
    exporter.write(ratio__green="NaN", ratio__blue="+Inf", here=1)
    await server.shows("here", lambda reading: reading.value == 1)

    nan = await server.shows('ratio{slot="green"}', lambda reading: "NaN" in reading.detail)
    inf = await server.shows('ratio{slot="blue"}', lambda reading: "Inf" in reading.detail)
    assert (nan.outcome, nan.value, nan.detail) == (
        Outcome.NO_DATA,
        None,
        "it is NaN: mostly nothing divided by nothing",
    )
    assert (inf.outcome, inf.value) == (Outcome.ERROR, None)
    assert "+Inf" in inf.detail


ODD = {
    "scalar": ("1.5", Outcome.VALUE, ""),
    "text": ('"text"', Outcome.WRONG, "the query gives text, and one number is wanted"),
    "matrix": ("up[1m]", Outcome.WRONG, "the query gives values over a time"),
    "no PromQL": ("sum(", Outcome.WRONG, "answered 400: invalid parameter"),
    "two on one": ("up + on(job) {__name__=~'up|scrape_.*'}", Outcome.ERROR, "answered 422: "),
    "too much": ("sum_over_time(vector(1)[30d:10ms])", Outcome.ERROR, "answered 422: query processing would load too"),
}


@pytest.mark.parametrize(("query", "outcome", "words"), ODD.values(), ids=ODD)
async def test_answers_of_every_kind(server: Server, query: str, outcome: Outcome, words: str) -> None:
    reading = await server.metrics().ask(query)

    assert reading.outcome is outcome, reading
    assert words in reading.detail


async def test_thousands_of_series(server: Server, exporter: Exporter) -> None:
    label = "x" * 100
    exporter.page("".join(f'many{{label="{label}{i}"}} {i}\n' for i in range(MANY)))
    many = LAST.format("many")
    await server.shows(f"count({many})", lambda reading: reading.value == MANY)

    few = await server.metrics().ask(f"{many} < 1000")
    assert "the query gives 1000 series, and one number is wanted: aggregate it, e.g. with sum(…)" in few.detail
    lots = await server.metrics().ask(many)
    assert f"larger than {MAX_ANSWER // 1024} KiB" in lots.detail
    judge = MetricsJudge.begin((Metric("many", many, success=Condition(above=-1)),))
    assert await measure(judge, server.metrics(), 10) is Verdict.INVALID


async def test_an_answer_that_comes_late(server: Server, exporter: Exporter) -> None:
    exporter.write(ratio__green=0.001)
    await server.shows(GREEN_RATIO, lambda reading: reading.value == 0.001)
    server.stop_answering()
    try:
        late = await server.metrics(timeout_s=0.3).ask("up")
    finally:
        server.answer_again()

    assert late == Reading.error(f"{server.url}: did not answer within 0.3 s")
    assert (await server.metrics().ask("1")).value == 1


async def test_prometheus_dies_and_comes_back(server: Server, exporter: Exporter) -> None:
    exporter.write(ratio__green=0.001)
    await server.shows(GREEN_RATIO, lambda reading: reading.value == 0.001)
    judge, hopeless = MetricsJudge.begin((RATIO,)), MetricsJudge.begin((RATIO,))
    assert await measure(judge, server.metrics(), 2) is Verdict.INCONCLUSIVE

    server.kill()
    try:
        assert await measure(judge, server.metrics(), 3) is Verdict.INCONCLUSIVE
        assert await measure(hopeless, server.metrics(), 10) is Verdict.INVALID
    finally:
        server.start()
    [evidence] = explain_metrics(judge, judge.now)
    assert (evidence.good, evidence.errors) == (2, 3)
    assert "can't be reached" in evidence.detail
    assert hopeless.decision is not None
    assert hopeless.decision.reason.startswith("the metric failed checkouts could not be measured 4 times in a row: ")

    await server.shows(GREEN_RATIO, lambda reading: reading.value == 0.001)
    assert await measure(judge, server.metrics(), 1) is Verdict.PASS


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> Iterator[Server]:
    """A Prometheus with a certificate of its own and a password."""
    base = tmp_path_factory.mktemp("guarded")
    openssl = shutil.which("openssl") or program("openssl")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=prometheus"
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(base / "key.pem"), "-out", str(base / "cert.pem"))
    made = subprocess.run([openssl, *words.split(), *files], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (base / "web.yml").write_text(
        f"tls_server_config: {{cert_file: {base}/cert.pem, key_file: {base}/key.pem}}\n"
        f"basic_auth_users: {{ops: {BCRYPT}}}\n"
    )
    server = Server(base / "one", exporter, f"--web.config.file={base}/web.yml")
    server.start()
    for name, text, mode in (("good", PASSWORD, 0o600), ("bad", "another", 0o600), ("open", PASSWORD, 0o644)):
        (base / name).write_text(f"{text}\n")
        (base / name).chmod(mode)
    yield server
    server.kill()


def guarded_keys(server: Server, password_file: str, ca_file: str = "cert.pem") -> PrometheusMetrics:
    url, user = f"https://127.0.0.1:{server.port}", "ops" if password_file else ""
    keys = Prometheus(url, user, password_file, ca_file=ca_file, timeout=30.0)  # type: ignore[arg-type]
    return PrometheusMetrics(keys, str(server.base.parent))


async def test_a_password_over_tls(guarded: Server) -> None:
    good = guarded_keys(guarded, "good")
    good.check()

    await guarded.shows("1", lambda reading: reading.value == 1, good)
    assert "answered 401" in (await guarded_keys(guarded, "bad").ask("1")).detail
    assert "answered 401" in (await guarded_keys(guarded, "").ask("1")).detail
    assert "its certificate is not trusted" in (await guarded_keys(guarded, "good", ca_file="").ask("1")).detail


@pytest.mark.parametrize(("name", "words"), [("open", "Others may read it (mode 0644)"), ("none", "No such file")])
async def test_a_password_that_others_may_read_is_not_sent(guarded: Server, name: str, words: str) -> None:
    metrics = guarded_keys(guarded, name)

    assert words in (await metrics.ask("1")).detail
    with pytest.raises(ConfigError) as caught:
        metrics.check()
    assert caught.value.where == str(guarded.base.parent / name)

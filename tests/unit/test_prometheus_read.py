"""Answers of Prometheus' HTTP API: exactly one finite number is a value, whatever else comes says what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.prometheus_read import MAX_WORDS, plain, read_answer, veiled
from nself_deploy.core.metrics import Outcome, Reading


def answer(kind: str, result: Any, **keys: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **keys}).encode()


def series(value: Any) -> dict[str, Any]:
    return {"metric": {"job": "shop"}, "value": [1.5, value]}


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("-0.5", -0.5), ("1e-7", 1e-7)])
def test_one_number_is_a_value(text: str, value: float) -> None:
    assert read_answer(200, answer("vector", [series(text)])) == Reading.of(value)
    assert read_answer(200, answer("scalar", [1.5, text])) == Reading.of(value)
    assert read_answer(200, answer("scalar", [1.5, text], infos=["no counter"])) == Reading.of(value)


ODD: dict[str, tuple[int, bytes, Outcome, str]] = {
    "nothing": (200, answer("vector", []), Outcome.NO_DATA, "gives nothing"),
    "NaN": (200, answer("vector", [series("NaN")]), Outcome.NO_DATA, "it is NaN"),
    "+Inf": (200, answer("vector", [series("+Inf")]), Outcome.ERROR, "it is +Inf"),
    "-Inf": (200, answer("scalar", [1, "-Inf"]), Outcome.ERROR, "it is -Inf"),
    "two": (200, answer("vector", [series("1")] * 2), Outcome.ERROR, "gives 2 series, and one number is wanted"),
    "histogram": (200, answer("vector", [{"metric": {}, "histogram": [1, {}]}]), Outcome.ERROR, "a histogram"),
    "matrix": (200, answer("matrix", []), Outcome.WRONG, "values over a time"),
    "text": (200, answer("string", [1, "x"]), Outcome.WRONG, "gives text"),
    "new": (200, answer("tensor", []), Outcome.ERROR, "gives 'tensor'"),
    "no list": (200, answer("vector", "x"), Outcome.ERROR, "gives 'vector'"),
    "no series": (200, answer("vector", ["x"]), Outcome.ERROR, "gives None"),
    "a bare number": (200, answer("vector", [series(1)]), Outcome.ERROR, "gives [1.5, 1]"),
    "no number": (200, answer("vector", [series("one")]), Outcome.ERROR, "gives [1.5, 'one']"),
    "warning": (200, answer("scalar", [1, "1"], warnings=["a\nb", "c"]), Outcome.ERROR, "with a warning: a b; c"),
    "no data": (200, b'{"status":"success"}', Outcome.ERROR, "answered 200: success"),
    "error": (400, b'{"status":"error","errorType":"bad_data","error":"parse"}', Outcome.WRONG, "answered 400: parse"),
    "created": (201, answer("scalar", [1, "1"]), Outcome.ERROR, "answered 201"),
    "page": (502, b"<h1>Bad\x1b[31m gateway</h1>", Outcome.ERROR, "answered 502: <h1>Bad [31m gateway</h1>"),
    "empty": (502, b"", Outcome.ERROR, "answered 502"),
    "deep": (200, b"[" * 100_000, Outcome.ERROR, "not Prometheus' JSON"),
    "not UTF-8": (200, b'{"status":"\xff"}', Outcome.ERROR, "not Prometheus' JSON"),
}


@pytest.mark.parametrize(("status", "body", "outcome", "words"), ODD.values(), ids=ODD)
def test_everything_else_says_what_it_is(status: int, body: bytes, outcome: Outcome, words: str) -> None:
    reading = read_answer(status, body)

    assert (reading.outcome, reading.value) == (outcome, None)
    assert words in reading.detail
    assert reading.detail.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "NaN", "vector", "success"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "data", "resultType", "result", "value", "warnings"]), inner)
    ),
)


@given(st.integers(100, 599), st.one_of(JSON.map(lambda x: json.dumps(x).encode()), st.binary(max_size=50)))
def test_no_answer_is_too_odd(status: int, body: bytes) -> None:
    reading = read_answer(status, body)

    assert len(reading.detail) <= MAX_WORDS + 100
    assert reading.detail.isprintable()


@given(st.sampled_from(["vector", "scalar", "matrix", "x"]), JSON)
def test_no_result_is_too_odd(kind: str, result: Any) -> None:
    reading = read_answer(200, answer(kind, result))

    assert (reading.outcome is Outcome.VALUE) is (reading.value is not None)


@pytest.mark.parametrize("before", range(MAX_WORDS - 24, MAX_WORDS + 2))
def test_a_secret_that_is_repeated_is_never_shown_not_even_a_part_of_it(before: int) -> None:
    secret = "tell-nobody  of-this"
    shown = veiled(plain("x" * before + secret + " and more"), (secret, ""))

    assert not any(secret[n : n + 5] in shown for n in range(len(secret) - 4)), shown
    assert shown.startswith("x" * min(before, MAX_WORDS))

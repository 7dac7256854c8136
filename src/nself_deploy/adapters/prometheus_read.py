"""What an answer of Prometheus' HTTP API says: exactly one number, nothing, or why it is no measurement."""

from __future__ import annotations

from typing import Any

import msgspec

from nself_deploy.core.metrics import Reading

MAX_WORDS = 300
VEIL = "***"
OK = 200
_WANTED = "and one number is wanted"


class _Data(msgspec.Struct):
    result_type: str = msgspec.field(name="resultType")
    result: Any = None


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""
    error_type: str = msgspec.field(name="errorType", default="")
    warnings: list[str] | None = None


def read_answer(status: int, body: bytes) -> Reading:
    """An answer to an instant query, of any status."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = plain(body[: 4 * MAX_WORDS].decode("utf-8", errors="replace"))
        said = f": {text}" if text else ""
        if status == OK:
            return Reading.error(f"answered something that is not Prometheus' JSON{said}")
        return Reading.error(f"answered {status}{said}")
    if status != OK or answer.status != "success" or answer.data is None:
        said = f"answered {status}: {plain(answer.error) or plain(answer.status)}"
        return Reading.wrong(said) if answer.error_type == "bad_data" else Reading.error(said)
    if answer.warnings:
        return Reading.error(f"answered with a warning: {plain('; '.join(answer.warnings))}")
    return _reading(answer.data)


def _reading(data: _Data) -> Reading:
    kind, result = data.result_type, data.result
    if kind == "scalar":
        return _number(result)
    if kind == "vector" and isinstance(result, list):
        if not result:
            return Reading.no_data("the query gives nothing: no series has these names and labels now")
        if len(result) > 1:
            return Reading.error(f"the query gives {len(result)} series, {_WANTED}: aggregate it, e.g. with sum(…)")
        [series] = result
        if isinstance(series, dict) and "histogram" in series:
            return Reading.error(
                "the query gives a histogram: ask for a quantile of it, with histogram_quantile(0.99, …)"
            )
        return _number(series.get("value") if isinstance(series, dict) else None)
    if kind == "matrix":
        return Reading.wrong(f"the query gives values over a time, {_WANTED}: take the rate or the average")
    if kind == "string":
        return Reading.wrong(f"the query gives text, {_WANTED}")
    return Reading.error(f"the query gives {plain(kind)[:40] or 'nothing known'!r}, {_WANTED}")


def _number(pair: object) -> Reading:
    """A time and the text of a number."""
    if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str):
        try:
            return Reading.of(float(pair[1]))
        except ValueError:
            pass
    return Reading.error(f"the query gives {plain(repr(pair))[:80]}, {_WANTED}")


def plain(text: str) -> str:
    """The beginning of a text, printable and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_WORDS]


def veiled(text: str, secrets: tuple[str, ...]) -> str:
    """A text that `plain` made, without these secrets: whole, folded, or cut off at its end."""
    for secret in secrets:
        for word in {secret, " ".join(secret.split())} - {""}:
            text = text.replace(word, VEIL)
            tail = next((n for n in range(min(len(word), len(text)), 3, -1) if text.endswith(word[:n])), 0)
            text = text[: len(text) - tail] + VEIL if tail else text
    return text

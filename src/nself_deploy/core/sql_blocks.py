"""What is in a DO block: its statements that change the schema, at the places where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nself_deploy.core.sql import Sort, Statement, Token, blank, tokens

SCHEMA_VERBS = frozenset({"ALTER", "CLUSTER", "CREATE", "DROP", "LOCK", "REFRESH", "REINDEX", "TRUNCATE", "VACUUM"})
_OPENS = frozenset({"BEGIN", "THEN", "ELSE", "LOOP", "DECLARE"})
"""Words of PL/pgSQL after which a statement may begin."""
_QUOTE = re.compile(r"\$[^$]*\$")


def opened(text: str, block: Statement) -> tuple[str, bool]:
    """The statements of a DO block that change the schema, and whether it does more that can't be known.

    What is given is as long as the block, everything else in it is blank, and each statement ends in a semicolon.

    Args:
        text: where the block stands.
        block: its tokens.
    """
    bodies = [token for token in block if token.sort is Sort.DOLLAR]
    words = [token.word for token in block]
    language = words[words.index("LANGUAGE") + 1 :][:1] if "LANGUAGE" in words else ["PLPGSQL"]
    start = block[0].at
    empty = blank(text[start : block[-1].end])
    if len(bodies) != 1 or language != ["PLPGSQL"]:
        return empty, True
    body, quote = bodies[0], _QUOTE.match(bodies[0].text)
    assert quote is not None
    if len(body.text) < 2 * quote.end() or not body.text.endswith(quote[0]):
        return empty, True  # it is left open
    inner = body.text[quote.end() : -quote.end()]
    kept, dynamic = _kept(inner)
    first = body.at - start + quote.end()
    return empty[:first] + kept + empty[first + len(inner) :], dynamic


def _kept(body: str) -> tuple[str, bool]:
    parts, at, dynamic = list[str](), 0, False
    for start, end, executes in _pieces(list(tokens(body))):
        dynamic = dynamic or executes
        if not executes:
            parts += (blank(body[at:start]), body[start:end])
            at = end
    return "".join((*parts, blank(body[at:]))), dynamic


def _pieces(found: list[Token]) -> Iterator[tuple[int, int, bool]]:
    """Where statements that change the schema begin and end, and where something is executed that is not known."""
    begins, at = True, 0
    while at < len(found):
        token = found[at]
        if begins and token.word in SCHEMA_VERBS:
            start = token.at
            while at + 1 < len(found) and found[at].sort is not Sort.END:
                at += 1
            yield start, found[at].end, False
            begins = True
        elif token.word == "EXECUTE":
            yield token.at, token.end, True
            begins = False
        else:
            begins = token.sort is Sort.END or token.word in _OPENS
        at += 1

"""What is wrong in a row of deploys under load."""

from __future__ import annotations

from tests.load import Kind, LoadMix, Outcome, Report, Stream
from tests.load.books import Books
from tests.load.records import Attempt
from tests.load.report import build_report
from tests.load.soak import limits_for, wrong_answers

MARKS = {"start 0": 10.0, "moved 0": 20.0, "start 1": 30.0, "moved 1": 40.0, "start 2": 50.0}


def answered(*answers: tuple[float, str]) -> Report:
    books = Books(LoadMix((Stream(Kind.GET, "/", clients=1),)), 0.0, started=len(answers), marks=dict(MARKS))
    for sent, release in answers:
        books.add(Attempt(0, sent, sent=sent, end=sent + 0.1, status=200, release=release), Outcome.OK)
    return build_report(books, 60.0, "asked", 0.1)


def test_each_release_answers_when_it_is_its_turn() -> None:
    report = answered(
        (15.0, "live"), (15.0, "s0"), (25.0, "s0"), (35.0, "s0"), (35.0, "s1"), (45.0, "s1"), (55.0, "s1")
    )

    assert [wrong_answers(report, number) for number in (0, 1)] == [[], []]


def test_another_release_is_found_before_during_and_after_a_move() -> None:
    report = answered((25.0, "live"), (35.0, "live"), (35.5, ""), (45.0, "s0"), (55.0, "s0"), (55.5, "s2"))

    assert [line.partition(":")[0] for line in wrong_answers(report, 0)] == ["after move 0", *["during deploy 1"] * 2]
    assert [line.partition(":")[0] for line in wrong_answers(report, 1)] == ["after move 1", "during deploy 2"]


def test_the_load_lasts_as_long_as_slow_deploys_but_never_for_days() -> None:
    assert limits_for(8, 300.0).duration_s == 120 + 8 * 300
    for deploys in (1, 20, 1000):
        limits_for(deploys, 300.0).check()

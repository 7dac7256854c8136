"""Which worker processes still take requests with the files of before."""

from __future__ import annotations

import itertools

import pytest

from nself_deploy.adapters.nginx_workers import Worker, left_behind, parse_workers


def stat(pid: int, parent: int, comm: str = "nginx") -> str:
    return f"{pid} ({comm}) S {parent} {pid} 1 0 -1 4194368 101 0"


def test_workers_are_known_by_their_title() -> None:
    found = parse_workers(
        [
            (stat(1, 0), "nginx: master process nginx -g daemon off;"),
            (stat(30, 1), "nginx: worker process "),
            (stat(31, 1), "nginx: worker process is shutting down\0\0"),
            (stat(32, 1), "nginx: cache manager process"),
            (stat(33, 1, "a) S 7 (b"), "nginx: worker process"),
            (stat(34, 1), "sh -c nginx: worker process"),
            ("", "nginx: worker process"),
            ("", ""),
        ]
    )
    assert found == (Worker(30, 1, False), Worker(31, 1, True), Worker(33, 1, False))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_none_is_left_behind_from_when_each_was_told(size: int) -> None:
    before = [Worker(10 + n, 1, False) for n in range(size)]
    new = [Worker(20 + n, 1, False) for n in range(size)]
    for told in itertools.product((None, False, True), repeat=size):  # gone, accepting, finishing
        now = [Worker(w.pid, 1, f) for w, f in zip(before, told, strict=True) if f is not None] + new
        assert left_behind(before, now) == {w.pid for w, f in zip(before, told, strict=True) if f is False}


def test_another_nginx_that_did_not_reload_is_not_waited_for() -> None:
    ours, others = Worker(10, 1, False), Worker(50, 5, False)
    assert left_behind([ours, others], [ours, others]) == set()
    assert left_behind([ours, others], [ours, others, Worker(11, 1, False)]) == {10}
    assert left_behind([ours, others], [others, Worker(11, 1, False)]) == set()


def test_one_that_was_finishing_before_is_not_waited_for() -> None:
    old = Worker(9, 1, True)
    assert left_behind([old, Worker(10, 1, False)], [old, Worker(10, 1, True), Worker(11, 1, False)]) == set()

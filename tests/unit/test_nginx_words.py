"""nginx's refusals, with files as this machine calls them."""

from __future__ import annotations

import pytest

from nself_deploy.core.nginx_words import refusal, refused
from nself_deploy.errors import Exit

MOUNTS = {"/etc/nginx": "/site/nginx", "/etc/nginx/conf.d": "/site/conf", "/data": "/volume"}
TESTED = """\
2026/11/22 23:03:54 [emerg] 34#34: invalid parameter "nonsense" in /etc/nginx/conf.d/site.conf:4
nginx: configuration file /etc/nginx/nginx.conf test failed"""
STARTED = """\
/docker-entrypoint.sh: Configuration complete; ready for start up
2026/11/22 23:10:52 [emerg] 1#1: unknown directive "lisp" in /etc/nginx/nginx.conf:7
nginx: [emerg] unknown directive "lisp" in /etc/nginx/nginx.conf:7"""


@pytest.mark.parametrize(
    ("words", "mounts", "where", "what"),
    [
        (TESTED, MOUNTS, "/site/conf/site.conf:4", 'nginx refuses it: invalid parameter "nonsense".'),
        (TESTED, {}, "/etc/nginx/conf.d/site.conf:4", 'nginx refuses it: invalid parameter "nonsense".'),
        (STARTED, MOUNTS, "/site/nginx/nginx.conf:7", 'nginx refuses it: unknown directive "lisp".'),
        (TESTED, {"/etc/nginx/conf.d/site.conf": "/one.conf", "/etc/nginx/co": "/x"}, "/one.conf:4", "nginx refuses"),
        ("nginx: [emerg] host not found", MOUNTS, "", "nginx refuses its configuration."),
    ],
)
def test_the_line_is_named(words: str, mounts: dict[str, str], where: str, what: str) -> None:
    error = refusal(words, mounts)

    assert error.where == where
    assert error.what.startswith(what)
    assert error.evidence == tuple(words.splitlines())
    assert error.exit_status is Exit.USAGE and not error.retryable


def test_only_a_line_of_its_files_is_a_refusal() -> None:
    assert refused(TESTED) and refused(STARTED)
    assert not refused("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)")
    assert not refused("")

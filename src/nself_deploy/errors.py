"""The errors of nself-deploy: what happened, to what, and what to do.

    NselfError                     status  retryable
    +-- UsageError                    1    no     wrong use: arguments, flags
    |   +-- ConfigError               1    no     a file of the user: place, value, remedy
    |   +-- StateFileError            1    no     one of our own files is unreadable
    +-- Bug                           1    no     an exception that nobody expected
    +-- InfrastructureError           2    yes    no Docker, host unreachable, disk full
    |   +-- EngineError               2    yes    the container engine refused or vanished
    |   +-- ImageError                2    yes    an image can't be had
    |   +-- RouterError               2    yes    nginx is not running, or does not do what its files say
    |       +-- RouterFilesRefused    1    no     nginx -t refused the files
    +-- NotAuthorised                 3    no
    +-- GateRefused                   4    no     prod without yes, unsafe migration
    +-- DeployFailed                  5    no     the candidate was refused; traffic is on the previous release
    |   +-- Unhealthy                 5    no     with the evidence: probe, log lines, what to do
    +-- Locked                        6    yes    another deploy holds the lock
    +-- Parked                        7    no     the deploy waits for a person
    +-- Interrupted                 130    yes    stopped by a signal, and undone

Every error ends in one line that tells the reader what to do (`remedy`).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the command line; the numbers are a contract."""

    OK = 0
    USAGE = 1
    INFRASTRUCTURE = 2
    NOT_AUTHORISED = 3
    REFUSED = 4
    FAILED = 5
    LOCKED = 6
    PARKED = 7
    INTERRUPTED = 130


class NselfError(Exception):
    """Base of all errors that a user may see.

    Args:
        what: what happened, to what; one sentence.
        remedy: what to do about it; one sentence, or empty when `what` says it already.
        where: the place (file, `file:line`, key path), or empty.
        evidence: lines that a person needs to understand it (log tail, probe answer).
    """

    exit_status: Exit = Exit.USAGE
    retryable: bool = False

    def __init__(self, what: str, remedy: str = "", *, where: str = "", evidence: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.where = where
        self.evidence = evidence

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} {self.remedy}".rstrip() if self.remedy else head


class UsageError(NselfError):
    """Wrong arguments or flags."""


class ConfigError(UsageError):
    """Something in a file of the user is wrong; `where` names the place."""


class StateFileError(UsageError):
    """One of our own files can't be read; it is never treated as "nothing there"."""


class Bug(NselfError):
    """An exception that nobody expected; the message says where its traceback is."""


class InfrastructureError(NselfError):
    """The world around us: engine, host, disk, network."""

    exit_status = Exit.INFRASTRUCTURE
    retryable = True


class EngineError(InfrastructureError):
    """The container engine refused, timed out, or can't be reached."""


class ImageError(InfrastructureError):
    """An image can't be built or pulled and isn't here."""

    retryable = False


class RouterError(InfrastructureError):
    """The router isn't running, refused its configuration, or doesn't do what its files say."""


class RouterFilesRefused(RouterError):
    """`nginx -t` refused the files: a configuration to correct, nothing to wait for."""

    exit_status = Exit.USAGE
    retryable = False


class NotAuthorised(NselfError):
    """No key, a wrong key, or a key for something else."""

    exit_status = Exit.NOT_AUTHORISED


class GateRefused(NselfError):
    """A gate said no: production without a yes, an unsafe migration, an open circuit breaker."""

    exit_status = Exit.REFUSED


class DeployFailed(NselfError):
    """The candidate was refused; traffic is where it was before."""

    exit_status = Exit.FAILED


class Unhealthy(DeployFailed):
    """A container never proved healthy, or stopped being so."""


class Locked(NselfError):
    """Another deploy of this project and target runs."""

    exit_status = Exit.LOCKED
    retryable = True
    purpose: str = ""
    """What its holder does, as far as it is known."""


class Parked(NselfError):
    """The deploy waits for a person."""

    exit_status = Exit.PARKED
    verdict: str = ""
    """What is known of the candidate, empty when a person paused it."""
    back: bool = False
    """Whether users have to be taken back to the live slot before it waits."""


class Interrupted(NselfError):
    """Stopped by a signal; what was done has been undone."""

    exit_status = Exit.INTERRUPTED
    retryable = True

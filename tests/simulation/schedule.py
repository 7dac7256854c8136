"""What happens in one history, as plain data: planned from a seed, printed, shrunk, and played again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from tests.simulation.process import Fault
from tests.simulation.shop import Shape

BEGINNINGS = ("fresh", "plain", "live", "standby")
VERSIONS = ("good", "slow", "never", "crash", "loop", "late-crash", "flap", "dies", "hangs", "bad-job", "api-never")
STEPS = (
    *("vacate", "networks", "router", "job:migrate", "start", "start", "probe", *["health"] * 4, *["move"] * 3),
    *(
        "watch",
        "watch",
        "handover",
        "drain",
        "retire",
        "record",
        "undo:move",
        "undo:drain",
        "undo:start",
        "undo:record",
    ),
)
"""Where something happens more often than by chance."""
CANARY_STEPS = ("smoke", "split:50", "judge:50", "judge:50", "move", "bake", "park", "undo:move")
"""The same for a canary."""
COMMANDS = ("deploy", "rollback", "resume", "abort")
SHOCKS = (
    "interrupt",
    "engine-down",
    "disk-full",
    *("refuse-files", "refuse-files"),
    "clock-back",
    "crash",
    "hang",
    "person-removes-container",
    "person-stops-container",
    "person-restarts-plain",
    "person-restarts-router",
    "person-stops-router",
    "person-restarts-shared",
    "person-stops-shared",
    "person-removes-network",
    "person-removes-link",
    "person-makes-stray",
    "person-composes-up",
)


class Command(msgspec.Struct, frozen=True):
    """One command that somebody gives, and what befalls it."""

    kind: str
    version: str = ""
    """Pushed before it: the images of this version; empty for no new one."""
    setting: int = 0
    """Another configuration of the services, if not 0."""
    faults: tuple[Fault, ...] = ()
    second: str = ""
    """A second operator gives this command at the same time."""
    elsewhere: bool = False
    """The second operator's machine is another one."""
    waits: bool = False
    """The second operator waits for the lock."""
    second_after: float = 0.0
    second_faults: tuple[Fault, ...] = ()
    pause: float = 1.0
    """Seconds before it."""


class Schedule(msgspec.Struct, frozen=True):
    """A whole history."""

    salt: int
    """Of everything that the world decides by dice."""
    shape: Shape
    beginning: str
    commands: tuple[Command, ...]


def planned(seed: int) -> Schedule:
    """The schedule of a seed."""
    dice = random.Random(seed)
    shape = Shape(
        replicas=2 if dice.random() < 0.25 else 1,
        single=dice.random() < 0.3,
        job=dice.random() < 0.3,
        checked=dice.random() < 0.7,
        waits=dice.random() < 0.3,
        standby=dice.random() < 0.7,
    )
    count = dice.choice((1, 1, 2, 2, 3))
    commands: list[Command] = []
    for number in range(count):
        killed = number > 0 and any(f.kind.startswith("kill") for f in commands[-1].faults)
        commands.append(_command(dice, number, killed=killed))
    schedule = Schedule(dice.getrandbits(32), shape, dice.choice(BEGINNINGS), tuple(commands))
    return with_canaries(schedule, seed) if seed % 8 == 7 else schedule


def with_canaries(schedule: Schedule, seed: int) -> Schedule:
    """The same history, with canaries in place of most deploys, and trouble at their own steps."""
    dice = random.Random(seed)
    commands = []
    for command in schedule.commands:
        kind = "canary" if command.kind == "deploy" and dice.random() < 0.7 else command.kind
        second = "canary" if command.second == "deploy" else command.second
        faults = tuple(
            msgspec.structs.replace(fault, step=dice.choice(CANARY_STEPS))
            if fault.step and dice.random() < 0.4
            else fault
            for fault in command.faults
        )
        commands.append(msgspec.structs.replace(command, kind=kind, second=second, faults=faults))
    return msgspec.structs.replace(schedule, commands=tuple(commands))


def _command(dice: random.Random, number: int, *, killed: bool) -> Command:
    kind = "deploy" if number == 0 and dice.random() < 0.7 else dice.choice(("deploy", "deploy", *COMMANDS))
    if killed and dice.random() < 0.6:
        kind = dice.choice(("resume", "resume", "resume", "abort"))
    version = "" if kind != "deploy" or dice.random() < 0.2 else "good"
    if version and dice.random() < 0.3:
        version = dice.choice(VERSIONS)
    second = dice.choice(COMMANDS) if dice.random() < 0.1 else ""
    return Command(
        kind,
        version,
        dice.choice((0, 0, 0, 0, 1, 2)),
        tuple(_faults(dice)),
        second,
        dice.random() < 0.5,
        dice.random() < 0.5,
        round(dice.uniform(0, 4), 2),
        tuple(_faults(dice)) if second else (),
        dice.choice((0.5, 0.5, 2.0, 20.0, 45.0)),
    )


def _faults(dice: random.Random) -> Iterator[Fault]:
    for _ in range(dice.choice((0, 1, 1, 1, 2))):
        roll = dice.random()
        at = dice.randint(1, 90) if dice.random() < 0.8 else dice.randint(1, 25)
        if roll < 0.4:
            kind = dice.choice(("kill-before", "kill-after"))
        elif roll < 0.65:
            kind = dice.choice(("refuse", "lost", "slow", "half"))
        else:
            kind = dice.choice(SHOCKS)
        step = dice.choice(STEPS) if dice.random() < 0.5 else ""
        yield Fault(dice.choice((0, 1, 1, 2, 2, 3, 6)) if step else at, kind, dice.randint(0, 5), step)


def smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules with one thing less, the biggest steps first."""
    commands = schedule.commands
    for n, command in enumerate(commands):
        if len(commands) > 1:
            yield msgspec.structs.replace(schedule, commands=commands[:n] + commands[n + 1 :])
        for less in _less(command):
            yield msgspec.structs.replace(schedule, commands=(*commands[:n], less, *commands[n + 1 :]))
    plain = Shape()
    for field in plain.__struct_fields__:
        if getattr(schedule.shape, field) != getattr(plain, field):
            yield msgspec.structs.replace(
                schedule, shape=msgspec.structs.replace(schedule.shape, **{field: getattr(plain, field)})
            )


def _less(command: Command) -> Iterator[Command]:
    if command.second:
        yield msgspec.structs.replace(command, second="", second_faults=(), second_after=0.0)
    for n in range(len(command.faults)):
        yield msgspec.structs.replace(command, faults=command.faults[:n] + command.faults[n + 1 :])
    for n in range(len(command.second_faults)):
        yield msgspec.structs.replace(command, second_faults=command.second_faults[:n] + command.second_faults[n + 1 :])
    if command.setting:
        yield msgspec.structs.replace(command, setting=0)
    if command.version not in ("", "good"):
        yield msgspec.structs.replace(command, version="good")
    if command.pause != 1.0:
        yield msgspec.structs.replace(command, pause=1.0)


def words(schedule: Schedule) -> str:
    """The schedule as text that can be given back (`--schedule`)."""
    return msgspec.json.encode(schedule).decode()


def read(text: str) -> Schedule:
    """A schedule from such text."""
    return msgspec.json.decode(text, type=Schedule)

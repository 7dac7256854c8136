"""The candidates, and what must become of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.load.candidates.crowd import TIMEOUT_S

COMMON = ("--drain", "60s", "--min-uptime", "1s", "--health-timeout", "90s", "--standby", "0", "--bake", "3s")
WORDS = (*COMMON, "--strategy", "canary")
SICK = (*WORDS, "--steps", "10:60s,100")
"""A minute at 10 %, in place of five."""
LENGTHY = (*WORDS, "--steps", "10:10m,100")
"""So long that it can't be proved to be good before the worst has come, however slow the machine is."""
BRIEF = (*WORDS, "--steps", "10:3s,100")
PATIENT = "latency: {warmup: 1h}"
"""Of `analysis`: a slot that has to wait for the processor is no slower one."""
SLACK_S = 5.0
"""What a real machine may need beyond the simulation: it looks four times a second, and has other things to do."""


@dataclass(frozen=True)
class Found:
    """Seconds from its first share within which it must be found; 0: no matter when."""

    median: float = 0.0
    """In the simulation, where there is one."""
    longest: float = 0.0
    """Of 200 simulated ones; where nothing is simulated, what is thought to be enough."""

    def __str__(self) -> str:
        if not self.longest:
            return ""
        return f"{self.median:.0f} ({self.longest:.0f})" if self.median else f"({self.longest:.0f})"


@dataclass(frozen=True)
class Candidate:
    """A version of the shop, and the verdict on it."""

    name: str
    verdicts: tuple[str, ...]
    """Those that are right; none when it is found before it has users."""
    status: int
    env: dict[str, str] = field(default_factory=dict)
    """What makes it so."""
    words: tuple[str, ...] = SICK
    fails: dict[str, float] = field(default_factory=dict)
    """Sort of request -> how often it fails: for the simulation."""
    slower: float = 1.0
    """So many times as long it takes: for the simulation."""
    onset_s: float = 0.0
    """When that begins, after its first users."""
    found: Found = Found()
    users: bool = True
    outage: bool = False
    """Whether the database is away for a while, when it has users."""
    kills: int = 0
    """How often the deploying process is killed before that."""
    analysis: str = ""
    """Settings of `analysis` of its own."""

    @property
    def simulated(self) -> bool:
        return bool(self.fails) or self.slower > 1.0


ALL = ("pages", "searches", "posts", "orders")
WEB = ("pages", "searches", "posts")


def sick(name: str, variant: str, *verdicts: str, **more: object) -> Candidate:
    """One whose web is sick, and which is removed for it unless something else is said."""
    told: dict[str, object] = {"verdicts": verdicts or ("fail",), "status": 5, **more}
    return Candidate(name, env={"SHOP_VARIANT": variant}, **told)  # type: ignore[arg-type]


HEALTHY = Candidate("healthy", ("pass",), 0, words=(*WORDS, "--steps", "10:35s,50:10s,100"))
CANDIDATES = (
    sick("late", "late", fails=dict.fromkeys(WEB, 0.2), onset_s=30.0, found=Found(36, 50)),
    sick("slow", "slow", slower=2.0, found=Found(35, 42), words=(*SICK, "--min-uptime", "25s")),
    sick("crashes", "restless", found=Found(0, 30)),
    sick("5 %", "rare", fails=dict.fromkeys(WEB, 0.05), found=Found(24, 85)),
    Candidate("one route", ("fail",), 5, {"SHOP_API_VARIANT": "flaky"}, fails={"orders": 0.2}, found=Found(24, 64)),
    sick("20 %", "flaky", fails=dict.fromkeys(WEB, 0.2), found=Found(6, 15)),
    sick("posts", "posts", fails={"posts": 1.0}, found=Found(5, 13)),
    sick("100 %", "broken", fails=dict.fromkeys(WEB, 1.0), found=Found(1, 3)),
    sick("hangs", "hang", found=Found(0, 2 * TIMEOUT_S), words=(*SICK, "--drain", "3s")),
    Candidate("everything", (), 5, {"SHOP_VARIANT": "errors"}),
    Candidate("database away", ("hold",), 7, found=Found(0, 35), outage=True),
    Candidate(
        "killed twice, database away",
        ("hold",),
        7,
        words=LENGTHY,
        outage=True,
        kills=2,
        # With 0.001, one of 7,000 is taken back: more of the clients that fail for want of the database are on it.
        analysis=f"alpha: 0.0000001, {PATIENT}",
    ),
    Candidate(
        "no users", ("inconclusive",), 7, words=(*WORDS, "--steps", "10:3s,100"), found=Found(0, 20), users=False
    ),
)
"""In the order in which they are tried: the longest first."""


def named(name: str) -> Candidate:
    """The candidate of this name."""
    return next(c for c in (HEALTHY, *CANDIDATES) if c.name == name)


BAD_WORDS = (
    (("--steps", "50,10,100"), "10 % after 50 % does not grow"),
    (("--steps", "10,10,100"), "10 % after 10 % does not grow"),
    (("--steps", "10,50"), "it ends with 50 % of the traffic"),
    (("--steps", "100"), "at least one share before all of the traffic"),
    (("--steps", "0,100"), "'0' is no share of 1 to 100 percent"),
    (("--steps", "10,150"), "'150' is no share of 1 to 100 percent"),
    (("--steps", "ten,100"), "'ten' is no share of 1 to 100 percent"),
    (("--steps", "10:0s,100"), "'10:0s' is kept for no time"),
    (("--steps", "10:soon,100"), "'soon' is not a duration"),
    (("--canary", "-5"), "'-5' is out of range: 1 to 99 is possible"),
    (("--canary", "100"), "'100' is out of range: 1 to 99 is possible"),
    (("--canary", "10", "--steps", "10,100"), "The shares are given in two ways"),
    (("--error-threshold", "-1"), "'-1' is out of range"),
    (("--error-threshold", "nan"), "'nan' is not a number: 0.001 to 100 is possible"),
    (("--error-threshold", "101"), "'101' is out of range"),
    (("--error-threshold", "80"), "slo_error_rate: 0.8 is out of range"),
    (("--soak", "1s"), "'1s' is out of range: 3s to 24h is possible"),
    (("--soak", "5m", "--steps", "10:1m,100"), "Say it once"),
)
"""What is asked for, and what the error says: nothing is done, and the exit status is 1."""

"""From settings and the project's file to what a canary is asked for: its shares, and how it is judged."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from nself_deploy.core.analysis import Analysis, Grace, Hold, LatencyKeys
from nself_deploy.core.durations import format_duration, parse_duration
from nself_deploy.core.extension import KEY, AnalysisKeys, HoldKeys
from nself_deploy.core.extension import LatencyKeys as WrittenLatency
from nself_deploy.core.pauses import Limit
from nself_deploy.core.plan_canary import Canary, Stage
from nself_deploy.core.settings import AUTO, DEFAULTS, Settings
from nself_deploy.errors import ConfigError, UsageError

PAUSE = "pause"
"""Behind a share: a person has to decide before the next one."""
SECOND_PERCENT = 50
LATER_PART = 5.0
"""Later shares are kept this many times shorter than the first one, when nothing else is said."""
LONGEST = 3.0
"""The longest soak, in planned ones."""


def canary_of(settings: Settings, keys: AnalysisKeys | None, *, keep_failed: bool = False) -> Canary:
    """What is asked for.

    Raises:
        UsageError: shares that don't grow to 100, or a value that is out of range.
        ConfigError: the same in the project's file.
    """
    stages, keys = _stages(settings), keys or AnalysisKeys()
    analysis = _analysis(settings, keys, sum(s.hold_s for s in stages))
    metrics = tuple(written.metric for written in keys.metrics)
    return Canary(stages, analysis, keep_failed, metrics, Limit(settings.pause_expiry_s, settings.pause_then))


def _stages(settings: Settings) -> tuple[Stage, ...]:
    words = _words(settings)
    soak_s = settings.soak_minutes * 60
    try:
        stages = tuple(_stage(word, soak_s if n == 0 else soak_s / LATER_PART) for n, word in enumerate(words))
        _check(stages)
    except ValueError as error:
        remedy = "Write shares that grow to 100, e.g. 10,50,100 or 10:1m,25:2m,50:2m,100."
        raise UsageError(f"{error}.", remedy, where=settings.place("steps")) from None
    if stages[0].hold_s == soak_s or _strength(settings, "soak_minutes") < _strength(settings, "steps"):
        return stages
    if _strength(settings, "soak_minutes") == _strength(settings, "steps"):
        what = f"The first share is kept for {format_duration(stages[0].hold_s)} or for {format_duration(soak_s)}?"
        raise UsageError(what, "Say it once.", where=settings.place("soak_minutes"))
    times = soak_s / stages[0].hold_s  # a stronger word about the first share: the others keep their proportions
    return tuple(msgspec.structs.replace(stage, hold_s=stage.hold_s * times) for stage in stages)


def _words(settings: Settings) -> list[str]:
    """The shares as they are written; the first one and 50 % when only that is given."""
    first, said = settings.initial_percent, _strength(settings, "initial_percent")
    if settings.steps and said == _strength(settings, "steps"):
        remedy = "Give one of them."
        raise UsageError("The shares are given in two ways.", remedy, where=settings.place("initial_percent"))
    if settings.steps and said < _strength(settings, "steps"):
        return settings.steps.split(",")
    second = [] if isinstance(first, int) and first >= SECOND_PERCENT else [str(SECOND_PERCENT)]
    return [str(first), *second, "100"]


def _strength(settings: Settings, field: str) -> int:
    """How strong the word about a setting is: a flag beats the environment, that the project's file, that a default."""
    origin = settings.origins.get(field, "default")
    return 3 if origin == "flag" else 2 if origin.startswith("environment ") else 0 if origin == "default" else 1


def _stage(word: str, hold_s: float) -> Stage:
    words = word.strip().split(":")
    pause = len(words) > 1 and words[-1] == PAUSE
    share, hold = words[0], ":".join(words[1 : len(words) - pause])
    auto = share == AUTO
    share = str(DEFAULTS["initial_percent"]) if auto else share
    if not (share.isascii() and share.isdigit()) or not 1 <= int(share) <= 100:
        raise ValueError(f"{word.strip()!r} is no share of 1 to 100 percent")
    seconds = parse_duration(hold) if hold else hold_s
    if not 0 < seconds <= 86400:
        raise ValueError(f"{word.strip()!r} is kept for no time, or for more than a day")
    if int(share) == 100 and pause:
        raise ValueError("there is nothing to pause for after all of the traffic")
    return Stage(int(share), 0.0 if int(share) == 100 else seconds, pause, auto)


def _check(stages: tuple[Stage, ...]) -> None:
    if len(stages) < 2:
        raise ValueError("a canary has at least one share before all of the traffic")
    if any(stage.auto for stage in stages[1:]):
        raise ValueError(f"only the first share can be {AUTO}")
    for one, following in pairwise(stages):
        if not one.auto and following.percent <= one.percent:
            raise ValueError(f"{following.percent} % after {one.percent} % does not grow")
    if stages[-1].percent != 100:
        raise ValueError(f"it ends with {stages[-1].percent} % of the traffic")


def _analysis(settings: Settings, keys: AnalysisKeys, planned_s: float) -> Analysis:
    """The judge's settings. A flag or variable for the threshold wins over the project's file."""
    given = _strength(settings, "error_threshold_pct") > 0
    written = keys.slo_error_rate
    soak_s = max(1.0, planned_s)
    try:
        return Analysis(
            alpha=keys.alpha,
            beta=keys.beta,
            slo_error_rate=settings.error_threshold_pct / 100 if given or written is None else written,
            hold=_hold(keys.hold or HoldKeys()),
            max_ratio=keys.max_ratio,
            min_effect=keys.min_effect,
            min_ratio=keys.min_ratio,
            min_errors=keys.min_errors,
            unit=keys.unit,
            latency=_latency(keys.latency or WrittenLatency()),
            soak_s=soak_s,
            max_soak_s=LONGEST * soak_s if keys.max_soak is None else float(keys.max_soak),
            on_inconclusive=keys.on_inconclusive,
            mode=keys.mode,
            shield=keys.shield,
        )
    except ValueError as error:
        if given and "slo_error_rate" in str(error):
            where = settings.place("error_threshold_pct")
            raise UsageError(f"{error} (0.01 is 1 %).", "Give a smaller one.", where=where) from None
        raise ConfigError(f"{error}.", "Correct it.", where=f"{KEY}.analysis") from None


def _hold(keys: HoldKeys) -> Hold:
    grace, usual = keys.grace, Grace()
    if grace is None:
        return Hold(keys.alpha)
    low = usual.min_s if grace.min is None else float(grace.min)
    high = max(low, usual.max_s) if grace.max is None else float(grace.max)
    return Hold(keys.alpha, Grace(grace.errors, low, high))


def _latency(keys: WrittenLatency) -> LatencyKeys:
    cuts = tuple(round(float(cut.removeprefix("p")) / 100, 6) for cut in keys.cuts)
    usual = LatencyKeys()
    return LatencyKeys(cuts, keys.tolerance, usual.warmup_s if keys.warmup is None else float(keys.warmup))

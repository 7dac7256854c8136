"""The exact change that makes a user's nginx files switchable, and the routes that they contain afterwards.

    plan_edit     what `nself deploy init` shows and applies: minimal changes of the text, each with its reason
    find_routes   what every later deploy reads from the edited files

Both are pure; the caller reads and writes the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nself_deploy.core.model import Route
from nself_deploy.core.nginx_config import Config, Sources
from nself_deploy.core.nginx_location import LocationEditor
from nself_deploy.core.nginx_names import Names, names_of
from nself_deploy.core.nginx_shield import answers_are_ours
from nself_deploy.core.nginx_surroundings import Surroundings
from nself_deploy.core.nginx_targets import Finder, Services, Target
from nself_deploy.core.nginx_text import Change, FileEdit, Writer, apply
from nself_deploy.errors import ConfigError

__all__ = ["EditPlan", "FileEdit", "FoundRoutes", "Services", "Sources", "find_routes", "plan_edit"]

_IDLE_BY_DEFAULT = (1, 29, 7)


@dataclass(frozen=True)
class EditPlan:
    """What has to be changed. With problems nothing should be applied."""

    edits: tuple[FileEdit, ...]
    routes: tuple[Route, ...]
    warnings: tuple[str, ...]
    problems: tuple[ConfigError, ...]
    """What can't be changed by us: each names file:line and the change to make by hand."""


@dataclass(frozen=True)
class FoundRoutes:
    """What the files say now."""

    routes: tuple[Route, ...]
    problems: tuple[ConfigError, ...]
    warnings: tuple[str, ...]
    needs_default_access_log: bool
    """The files name no access log at http level, so nginx's own default has to be repeated beside ours."""
    shield_answers: bool = False
    """What `TreeSpec.shield_answers` may be."""


def plan_edit(
    sources: Sources,
    services: Services,
    project: str,
    directory: str,
    nginx_version: tuple[int, ...] = (),
    *,
    cookie: bool = False,
) -> EditPlan:
    """The change of the user's files; empty edits when nothing is left to do.

    Args:
        directory: our directory as nginx sees it.
        nginx_version: of the router, empty when unknown.
        cookie: the split gives clients a cookie.

    Raises:
        ConfigError: a file is not valid.
    """
    config = Config(sources)
    names = names_of(project)
    finder = Finder(config, services, names, directory, keeps_idle=nginx_version >= _IDLE_BY_DEFAULT)
    problems = [*finder.problems]
    surroundings = Surroundings(config, names, directory, Writer(config), cookie=cookie)
    changes = _location_changes(config, names, finder.targets, problems)
    try:
        changes += _groups(config, finder)
        changes += surroundings.changes([target.line for target in finder.targets])
    except ConfigError as error:
        problems.append(error)
    warnings = [
        *finder.warnings,
        *_group_warnings(config, finder),
        *surroundings.warnings(finder.targets, nginx_version),
    ]
    routes = _routes(finder.targets, problems)
    edits: tuple[FileEdit, ...] = ()
    try:
        edits = apply(sources.files, sources.shown, changes)
    except ConfigError as error:
        problems.append(error)
    return EditPlan(edits, routes, tuple(dict.fromkeys(warnings)), tuple(problems))


def find_routes(
    sources: Sources, services: Services, project: str, directory: str, *, cookie: bool = False
) -> FoundRoutes:
    """The routes of files that `plan_edit` has changed (or a person, the same way).

    Raises:
        ConfigError: a file is not valid.
    """
    config = Config(sources)
    names = names_of(project)
    finder = Finder(config, services, names, directory)
    problems = [*finder.problems]
    surroundings = Surroundings(config, names, directory, Writer(config), cookie=cookie)
    done = [target for target in finder.targets if target.done]
    problems += [
        ConfigError(
            f"{target.line.name} leads to {target.route.service} without a slot.",
            "Run nself deploy init, which shows and makes the change.",
            where=config.place(target.line.node),
        )
        for target in finder.targets
        if not target.done
    ]
    problems += surroundings.missing([target.line for target in done])
    return FoundRoutes(
        _routes(done, problems),
        tuple(problems),
        tuple(finder.warnings),
        surroundings.needs_default_access_log(),
        answers_are_ours(config, [target.line for target in done], directory),
    )


def _location_changes(config: Config, names: Names, targets: list[Target], problems: list[ConfigError]) -> list[Change]:
    editor = LocationEditor(config, names, Writer(config))
    made: dict[tuple[str, int], list[Change]] = {}
    for target in targets:
        if target.done:
            continue
        try:
            changes = editor.edit(target)
        except ConfigError as error:
            problems.append(error)
            continue
        node = target.line.node
        if made.setdefault((node.file, node.start), changes) != changes:
            problems.append(
                ConfigError(
                    "this file is included in several places that need different changes.",
                    "Write the lines out where they are included.",
                    where=config.place(node),
                )
            )
    return [change for changes in made.values() for change in changes]


def _groups(config: Config, finder: Finder) -> list[Change]:
    """The user's upstreams of app services go: nginx would not start once the names in them are gone."""
    writer = Writer(config)
    return [
        writer.whole(
            group.block.node,
            f"# upstream {name}: {group.service}:{group.port} has an upstream per slot now.",
            "nginx would look for these names when it starts, and they are gone after the first deploy",
        )
        for name, group in finder.groups.items()
    ]


def _group_warnings(config: Config, finder: Finder) -> list[str]:
    return [
        f"{config.place(group.block.node)}: {', '.join(group.lost)} of upstream {name} is not carried over."
        for name, group in finder.groups.items()
        if group.lost
    ]


def _routes(targets: Iterable[Target], problems: list[ConfigError]) -> tuple[Route, ...]:
    """One route per service and port, by key; the first line that leads there is its source."""
    routes: dict[str, Route] = {}
    for target in targets:
        known = routes.get(target.route.key)
        if known is None or (known.service == target.route.service and target.route.keepalive > known.keepalive):
            routes[target.route.key] = target.route
        elif known.service != target.route.service:
            problems.append(
                ConfigError(
                    f"{known.service} and {target.route.service} differ in punctuation only.",
                    "Rename one of the services.",
                    where=target.route.source,
                )
            )
    return tuple(routes[key] for key in sorted(routes))

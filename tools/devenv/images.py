"""The images that the project's Compose files name: pulled where a registry answers, else made here and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import archive
from apt import unpack_from
from places import DevenvError, cache_dir, locked, say
from recipes import RECIPES
from rootfs import FILES, Recipe, busybox_links, finish, script, set_certificates, skeleton

LABEL = "org.nself-deploy.recipe"
REGISTRY_TIMEOUT_S = 6
PULL_TIMEOUT_S = 600
_CODE = (archive, finish, skeleton, set_certificates, busybox_links, script)  # what every image is made with


class Images:
    """The images on one engine, seen through the docker client with the given variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **variables}
        program = shutil.which("docker", path=self._environ.get("PATH"))
        if program is None:
            raise DevenvError("there is no docker client on PATH")
        self._docker = program
        self._registry: bool | None = None

    def provide(self, recipe: Recipe) -> None:
        """Make sure that the engine has all names of this recipe."""
        digest = recipe_digest(recipe)
        if all(self._found(name) in ("", digest) for name in recipe.names):
            return
        file = cache_dir() / "images" / f"{recipe.key}-{digest}.tar"
        with locked(cache_dir() / "images" / f"{recipe.key}.lock"):
            if not file.is_file():
                if self._pull(recipe):
                    return
                build(recipe, digest, file)
            say(f"loading {', '.join(recipe.names)}")
            self._run("load", "--quiet", "--input", str(file), check=True)

    def _found(self, name: str) -> str | None:
        """The recipe's digest of the image with this name; "" for one that was not made here, None if there is none."""
        done = self._run("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', name)
        return done.stdout.strip().replace("<no value>", "") if done.returncode == 0 else None

    def _pull(self, recipe: Recipe) -> bool:
        if self._registry is None:
            self._registry = self._registry_answers(recipe.names[0])
        if not self._registry:
            return False
        for name in recipe.names:
            say(f"pulling {name}")
            done = self._run("pull", "--quiet", name, timeout_s=PULL_TIMEOUT_S)
            if done.returncode:
                say(f"{name} could not be pulled, so it is made here: {done.stderr.strip()}")
                return False
        return True

    def _registry_answers(self, name: str) -> bool:
        try:
            done = self._run("manifest", "inspect", name, timeout_s=REGISTRY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _run(self, *words: str, check: bool = False, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._docker, *words],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise DevenvError(f"docker {' '.join(words)} failed: {done.stderr.strip()}")
        return done


def provide(variables: Mapping[str, str]) -> None:
    """Make sure that the engine reached with `variables` has every image."""
    images = Images(variables)
    for recipe in RECIPES:
        images.provide(recipe)


def recipe_digest(recipe: Recipe) -> str:
    """Sixteen characters that stand for everything that goes into the image but the packages' versions."""
    own = sorted(FILES.glob(f"{recipe.names[0].partition(':')[0]}*"))
    data = [getattr(recipe, one.name) for one in dataclasses.fields(recipe)]
    parts = [repr(value) for value in data if not callable(value)]
    parts += [inspect.getsource(code) for code in (recipe.prepare, *_CODE)]
    parts += [recipe.inputs(), os.uname().machine, *(path.read_text(encoding="utf-8") for path in own)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(recipe: Recipe, digest: str, target: Path) -> None:
    """Make the image's archive from Debian's packages; archives of older recipes are removed."""
    say(f"making {', '.join(recipe.names)} from Debian packages")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".root-", dir=target.parent) as work:
        root = Path(work) / "root"
        root.mkdir(mode=0o755)
        skeleton(root)
        files = unpack_from(recipe.sources, root, recipe.leave_out)
        finish(root, recipe)
        config = dataclasses.replace(recipe.config, labels={LABEL: digest})
        draft = Path(work) / "image.tar"
        archive.write_archive(root, draft, recipe.names, config, recipe.owners)
        for old in target.parent.glob(f"{recipe.key}-*"):
            old.unlink()
        target.with_suffix(".json").write_text(json.dumps({"packages": files}, indent=1) + "\n", encoding="utf-8")
        draft.chmod(0o600)  # the machine's pip settings in it may hold a password
        draft.rename(target)


if __name__ == "__main__":
    sys.exit("run tools/engine images instead")

"""How each image is made from Debian's packages, close to the official image of that name in what people rely on."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from apt import Source
from archive import ImageConfig, Owner
from places import say
from rootfs import FILES, Recipe, User, busybox_links, script, set_certificates

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE = (
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "netbase",
    "passwd",
    "procps",
    "sed",
    "tar",
    "tzdata",
    "util-linux",
)
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")
_STDLIB_NOT_WANTED = ("test", "idlelib", "turtledemo", "tkinter")


def prepare_nginx(root: Path) -> None:
    """The official image's layout of files, logs to the container's output."""
    for leftover in ("sites-enabled", "sites-available", "modules-enabled"):
        shutil.rmtree(root / "etc/nginx" / leftover, ignore_errors=True)
    for name in ("conf.d", "modules-enabled"):
        (root / "etc/nginx" / name).mkdir(exist_ok=True)
    shutil.copyfile(FILES / "nginx.conf", root / "etc/nginx/nginx.conf")
    shutil.copyfile(FILES / "nginx-default.conf", root / "etc/nginx/conf.d/default.conf")
    script(root, "nginx-entrypoint.sh", "docker-entrypoint.sh")
    for name in ("docker-entrypoint.d", "var/log/nginx", "var/lib/nginx", "var/cache/nginx"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, stream in (("access.log", "stdout"), ("error.log", "stderr")):
        (root / "var/log/nginx" / name).unlink(missing_ok=True)
        (root / "var/log/nginx" / name).symlink_to(f"/dev/{stream}")
    busybox_links(root)


def prepare_python(root: Path) -> None:
    """`python` and `pip` below /usr/local, which is a virtual environment on Debian's Python: pip may install there."""
    for name in ("python", "python3", "python3.13"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.13")
    lines = [
        "home = /usr/bin",
        "include-system-site-packages = false",
        "version = 3.13",
        "executable = /usr/bin/python3.13",
    ]
    (root / "usr/local/pyvenv.cfg").write_text("\n".join(lines) + "\n", encoding="ascii")
    packages = root / "usr/local/lib/python3.13/site-packages"
    packages.mkdir(parents=True)
    wheel = next((root / "usr/share/python-wheels").glob("pip-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    starter = "#!/usr/local/bin/python\nimport sys\nfrom pip._internal.cli.main import main\n\nsys.exit(main())\n"
    for name in ("pip", "pip3", "pip3.13"):
        (root / "usr/local/bin" / name).write_text(starter, encoding="ascii")
        (root / "usr/local/bin" / name).chmod(0o755)
    standard = root / "usr/lib/python3.13"
    for name in _STDLIB_NOT_WANTED:
        shutil.rmtree(standard / name, ignore_errors=True)
    bundle = machine_certificates()
    if bundle:
        set_certificates(root, bundle)
    (root / "etc/pip.conf").write_text(machine_pip_settings(), encoding="utf-8")
    for directory in (standard, packages):
        byte_compile(root, directory)


def byte_compile(root: Path, directory: Path) -> None:
    """Compile with the image's own interpreter, so that a container does not do it again at each start.

    By one process: the interpreter, called through its loader, can't start others.
    """
    loader = next(root.glob("usr/lib/*-linux-gnu/ld-linux-*"))
    python = [str(loader), "--library-path", str(loader.parent), str(root / "usr/bin/python3.13")]
    words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    done = subprocess.run(
        [*python, *words, str(directory)],
        env={"PYTHONHOME": str(root / "usr"), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:  # a file that does not compile stays as it is
        say(f"not all of {directory.relative_to(root)} could be compiled: {(done.stdout + done.stderr)[-300:]}")


def machine_certificates() -> str:
    """The certificates that this machine trusts: a company's or a CI's proxy signs with its own."""
    names = [os.environ.get(name, "") for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    for name in [*names, "/etc/ssl/certs/ca-certificates.crt"]:
        if name and Path(name).is_file():
            return Path(name).read_text(encoding="utf-8")
    return ""


def machine_pip_settings() -> str:
    """The machine's pip settings that make sense in a container, as a pip configuration file."""
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([*files, os.environ.get("PIP_CONFIG_FILE", os.devnull)], encoding="utf-8")
    found = dict(parser["global"]) if parser.has_section("global") else {}
    found |= {
        key: os.environ[name] for key in _PIP_SETTINGS if (name := f"PIP_{key.upper().replace('-', '_')}") in os.environ
    }
    kept = {"cert": "/etc/ssl/certs/ca-certificates.crt", "root-user-action": "ignore"}
    for key in _PIP_SETTINGS:
        usable = [word for word in found.get(key, "").split() if not word.startswith(("file:", "/"))]
        if usable:
            kept[key] = " ".join(usable)
    return "".join(f"{line}\n" for line in ("[global]", *(f"{key} = {value}" for key, value in kept.items())))


def prepare_postgres(root: Path) -> None:
    """The server's programs on the path, without the compiler for queries (it alone is larger than all the rest)."""
    library = root / "usr/lib/postgresql/17"
    shutil.rmtree(library / "lib/bitcode", ignore_errors=True)
    (library / "lib/llvmjit.so").unlink(missing_ok=True)
    for name in ("var/lib/postgresql/data", "run/postgresql", "docker-entrypoint-initdb.d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    script(root, "postgres-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh")


def prepare_redis(root: Path) -> None:
    """The data directory, and the entry point that gives it to the server's user."""
    (root / "data").mkdir()
    script(root, "redis-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh")
    busybox_links(root)


RECIPES = (
    Recipe(
        names=("busybox:1.37",),
        sources=(Source("trixie", ("busybox-static",), closure=False),),
        config=ImageConfig(command=("sh",), environment={"PATH": PATH}),
        prepare=busybox_links,
    ),
    Recipe(
        names=("nginx:1.30-alpine", "nginx:1.30"),
        sources=(Source("forky", (*BASE, "nginx", "curl", "busybox-static")),),
        config=ImageConfig(
            command=("nginx", "-g", "daemon off;"),
            entrypoint=("/docker-entrypoint.sh",),
            environment={"PATH": PATH},
            ports=("80/tcp",),
            stop_signal="SIGQUIT",
        ),
        prepare=prepare_nginx,
        users=(User("nginx", 101, 101, "/nonexistent"),),
        owners={"var/cache/nginx": Owner(101, 101, 0o755)},
    ),
    Recipe(
        names=("python:3.13-slim",),
        sources=(Source("trixie", (*BASE, "python3.13", "python3-pip-whl", "python3.13-venv", "libexpat1")),),
        config=ImageConfig(
            command=("python3",),
            environment={"PATH": PATH, "LANG": "C.UTF-8", "PYTHON_VERSION": "3.13"},
        ),
        prepare=prepare_python,
        inputs=lambda: machine_certificates() + machine_pip_settings(),
    ),
    Recipe(
        names=("postgres:17",),
        sources=(Source("trixie", (*BASE, "postgresql-17", "postgresql-client-17")),),
        config=ImageConfig(
            command=("postgres",),
            entrypoint=("docker-entrypoint.sh",),
            ports=("5432/tcp",),
            stop_signal="SIGINT",
            environment={
                "PATH": f"{PATH}:/usr/lib/postgresql/17/bin",
                "LANG": "C.UTF-8",
                "PGDATA": "/var/lib/postgresql/data",
            },
            volumes=("/var/lib/postgresql/data",),
        ),
        prepare=prepare_postgres,
        users=(User("postgres", 999, 999, "/var/lib/postgresql"),),
        leave_out=(
            "libllvm",
            "libz3-",
            "perl",
            "libperl",
            "ssl-cert_",
            "postgresql-common",
            "postgresql-client-common",
            "ucf_",
            "debconf_",
        ),
        owners={
            "var/lib/postgresql": Owner(999, 999, 0o755),
            "var/lib/postgresql/data": Owner(999, 999, 0o700),
            "run/postgresql": Owner(999, 999, 0o3777),
        },
    ),
    Recipe(
        names=("redis:8-alpine",),
        sources=(Source("trixie", (*BASE, "redis-server", "redis-tools", "busybox-static")),),
        config=ImageConfig(
            command=("redis-server",),
            entrypoint=("docker-entrypoint.sh",),
            environment={"PATH": PATH},
            ports=("6379/tcp",),
            volumes=("/data",),
            workdir="/data",
        ),
        prepare=prepare_redis,
        users=(User("redis", 999, 1000, "/data"),),
        owners={"data": Owner(999, 1000, 0o755)},
    ),
)

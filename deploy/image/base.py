"""A stand-in for the official Python image, for machines that reach no registry: `python -m deploy.image.base`.

Debian by debootstrap, from the machine's own mirror, with the machine's own Python in /usr/local, where the official
image has it, and pip. Good for building the Dockerfile and running what comes out; its size is nobody else's.
Needs Linux of Debian's kind, root, debootstrap and podman. It is made once and kept as an archive in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NAME = "localhost/embedserve-stand-in-base"
_REVISION = 1  # raise it when what is made changes
# What the official image has beside Python, and the libraries that Python's own modules are linked with.
_PACKAGES = ("ca-certificates", "netbase", "tzdata")
_LEFT_OUT = ("site-packages", "test", "idlelib", "tkinter", "turtledemo", "__pycache__", "_tkinter*", "config-*")
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoStandIn(Exception):
    """Why it cannot be made here."""


def stand_in() -> str:
    """Its name in podman's and buildah's storage, made if it is not there yet. Raises NoStandIn."""
    suite = _suite()
    recipe = f"{_REVISION} {suite} {sys.version} {sys.base_prefix}"
    name = f"{_NAME}:{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0:
        return name
    archive = cache_folder() / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _make(suite, archive)
    changes = (f"ENV PATH={_PATH}", "ENV LANG=C.UTF-8", 'CMD ["python3"]')
    _run("podman", "import", "--quiet", *(f"--change={one}" for one in changes), str(archive), name)
    return name


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/embedserve-image`, or `~/.cache/embedserve-image`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedserve-image"


def _suite() -> str:
    """The machine's release of Debian: the interpreter was built with its libraries. Raises NoStandIn."""
    release = Path("/etc/os-release")
    words = dict(line.split("=", 1) for line in release.read_text("utf-8").splitlines() if "=" in line)
    if words.get("ID") != "debian":
        raise NoStandIn("the stand-in base is made from Debian's packages, and this is no Debian")
    if sys.base_prefix == "/usr":
        raise NoStandIn("the stand-in base needs a Python with a folder of its own, and this is the system's")
    return words["VERSION_CODENAME"]


def _make(suite: str, archive: Path) -> None:
    """About a minute. What is half made never has the archive's name."""
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="making-") as temporary:
        root = Path(temporary) / "root"
        packages = f"--include={','.join([*_PACKAGES, *sorted(set(_libraries()))])}"
        # debootstrap mounts /proc and /sys into it: in a namespace of its own they are gone when it is.
        _run("unshare", "--mount", "debootstrap", "--variant=minbase", packages, suite, str(root), _mirror())
        _copy_python(root)
        for folder in _NOT_IN_SLIM:
            shutil.rmtree(root / folder, ignore_errors=True)
        half = archive.with_suffix(".half")
        with tarfile.open(half, "w") as packed:
            packed.add(root, arcname=".")
        half.rename(archive)


def _mirror() -> str:
    """The one that apt uses. Raises NoStandIn."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"], capture_output=True, text=True
    )
    if not (sites := told.stdout.split()):
        raise NoStandIn("apt knows no mirror; run apt-get update")
    return sites[0]


def _copy_python(root: Path) -> None:
    """With its library, without packages, and then pip."""
    local = root / "usr" / "local"
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, local / "lib" / _PYTHON, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for library in (stdlib.parent).glob("libpython*.so*"):
        shutil.copy2(library, local / "lib", follow_symlinks=False)
    shutil.copy2(Path(sys.base_prefix) / "bin" / _PYTHON, local / "bin")
    for alias in ("python3", "python"):
        (local / "bin" / alias).symlink_to(_PYTHON)
    (local / "lib" / _PYTHON / "site-packages").mkdir()
    _run("chroot", str(root), "/sbin/ldconfig")
    _run("chroot", str(root), f"/usr/local/bin/{_PYTHON}", "-m", "ensurepip")
    (local / "bin" / "pip").symlink_to("pip3")


def _libraries() -> Iterator[str]:
    """Debian's packages of the libraries that Python and its own modules are linked with."""
    modules = Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")
    linked = [str(one) for one in modules if not one.name.startswith("_tkinter")]
    told = subprocess.run(
        ["ldd", str(Path(sys.base_prefix, "bin", _PYTHON)), *linked], capture_output=True, text=True, check=True
    )
    names = {line.split()[0] for line in told.stdout.splitlines() if "=>" in line}
    for name in names - {one for one in names if one.startswith("libpython")}:
        owner = subprocess.run(["dpkg", "-S", f"*/{name}"], capture_output=True, text=True, check=True)
        yield owner.stdout.partition(":")[0]


def _run(*command: str) -> None:
    """Raises NoStandIn with the end of what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise NoStandIn(f"{command[0]} failed: {' '.join(done.stdout.splitlines()[-3:])}")


if __name__ == "__main__":
    try:
        print(stand_in())
    except NoStandIn as error:
        sys.exit(f"embedserve: {error}")

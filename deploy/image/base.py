"""A stand-in for the official Python image, for machines that reach no registry: `python -m deploy.image.base`.

The release of Debian that the Dockerfile names, by debootstrap from the machine's own mirror, and the Python that it
names in Debian's own build, called as the official image calls its own, with pip. Good for building the Dockerfile and
running what comes out; its size is nobody else's.
Needs Debian, root, debootstrap and podman. It is made once and kept as an archive in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_NAME = "localhost/embedserve-stand-in-base"
_REVISION = 2  # raise it when what is made changes
_DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"
_OFFICIAL = re.compile(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-slim-([a-z]+)$", re.M)
# What the official image has beside Python.
_PACKAGES = ("ca-certificates", "netbase", "tzdata")
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoStandIn(Exception):
    """Why it cannot be made here."""


def stand_in() -> str:
    """Its name in podman's and buildah's storage, made if it is not there yet. Raises NoStandIn."""
    version, suite = stood_for()
    recipe = hashlib.sha256(f"{_REVISION} {version} {suite}".encode()).hexdigest()[:8]
    name = f"{_NAME}:{version}-{suite}-{recipe}"
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0:
        return name
    archive = cache_folder() / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _make(f"python{version}", suite, archive)
    changes = (f"ENV PATH={_PATH}", "ENV LANG=C.UTF-8", 'CMD ["python3"]')
    _run("podman", "import", "--quiet", *(f"--change={one}" for one in changes), str(archive), name)
    return name


def stood_for() -> tuple[str, str]:
    """The version of Python and Debian's release in the Dockerfile: `("3.13", "trixie")`. Raises NoStandIn."""
    if not (named := _OFFICIAL.search(_DOCKERFILE.read_text("utf-8"))):
        raise NoStandIn("the Dockerfile's PYTHON_IMAGE is no slim image of a release of Debian")
    return named[1], named[2]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/embedserve-image`, or `~/.cache/embedserve-image`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedserve-image"


def _make(python: str, suite: str, archive: Path) -> None:
    """About a minute. What is half made never has the archive's name."""
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="making-") as temporary:
        root = Path(temporary) / "root"
        packages = f"--include={','.join([*_PACKAGES, python, f'{python}-venv'])}"
        # debootstrap mounts /proc and /sys into it: in a namespace of its own they are gone when it is.
        _run("unshare", "--mount", "debootstrap", "--variant=minbase", packages, suite, str(root), _mirror())
        _as_the_official(python, root)
        for folder in (root / one for one in _NOT_IN_SLIM):
            shutil.rmtree(folder, ignore_errors=True)
        half = archive.with_suffix(".half")
        with tarfile.open(half, "w") as packed:
            packed.add(root, arcname=".")
        half.rename(archive)


def _mirror() -> str:
    """The one that apt uses. Raises NoStandIn."""
    if "ID=debian" not in Path("/etc/os-release").read_text("utf-8").splitlines():
        raise NoStandIn("the stand-in base is made from Debian's packages, and this is no Debian")
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"], capture_output=True, text=True
    )
    if not (sites := told.stdout.split()):
        raise NoStandIn("apt knows no mirror; run apt-get update")
    return sites[0]


def _as_the_official(python: str, root: Path) -> None:
    """Python's names; pip, installed and for ensurepip, which Debian keeps from its own Python; no bytecode."""
    for alias in ("python3", "python"):
        (root / "usr/local/bin" / alias).symlink_to(f"/usr/bin/{python}")
    library, wheels = root / "usr/lib" / python, root / "usr/share/python-wheels"
    (library / "EXTERNALLY-MANAGED").unlink()
    bundled = library / "ensurepip/_bundled"
    wheels.rename(bundled)
    wheels.symlink_to(f"/{bundled.relative_to(root)}")
    (wheel,) = (f"/{one.relative_to(root)}" for one in bundled.glob("pip-*.whl"))
    _run("chroot", str(root), python, f"{wheel}/pip", "install", "--no-index", "--root-user-action", "ignore", wheel)
    for compiled in list(root.rglob("__pycache__")):
        shutil.rmtree(compiled)


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

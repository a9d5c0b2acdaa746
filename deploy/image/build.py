"""Builds the Dockerfile with buildah on the stand-in base: `python -m deploy.image.build TAG NAME=VALUE …`.

`make image` is what people with a registry run. This is for machines without one, and for tests/image.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.image.base import NoStandIn, stand_in

ROOT = Path(__file__).parents[2]
TAG, BAKED_TAG = "localhost/embedserve:test", "localhost/embedserve:test-baked"
# overlay takes no second copy of each layer; chroot needs no namespaces, which containers rarely may make.
ENVIRONMENT = {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "docker"}
_CERTIFICATES = Path("/etc/ssl/certs")
_OF_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout")


class BuildFailed(Exception):
    """The end of what buildah said."""


def build(
    tag: str,
    target: str = "cpu",
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    context: Path = ROOT,
) -> str:
    """Builds a target under that name with those build arguments and labels, and returns its log. What is there already
    is taken from buildah's cache, which looks at labels, but took one made of a build argument from another build.
    Raises NoStandIn, BuildFailed."""
    told = {"PYTHON_IMAGE": stand_in(), **(arguments or {})}
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as pip:
        pip.write("\n".join(["[global]", *(f"{name} = {value}" for name, value in _pip_settings().items()), ""]))
        pip.flush()
        command = ["buildah", "bud", "--layers", "--pull-never", "--network", "host", "--target", target, "--tag", tag]
        command += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--secret", f"id=pip,src={pip.name}"]
        command += [word for name, value in told.items() for word in ("--build-arg", f"{name}={value}")]
        command += [word for name, value in (labels or {}).items() for word in ("--label", f"{name}={value}")]
        done = subprocess.run(
            [*command, "."],
            cwd=context,
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        raise BuildFailed("\n".join(done.stdout.splitlines()[-15:]))
    return done.stdout


def _pip_settings() -> Mapping[str, str]:
    """Where pip looks for packages on this machine, as far as that is the network."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        words = [word for word in str(ast.literal_eval(value)).split() if not word.startswith("file:")]
        found[key.rpartition(".")[2]] = " ".join(words)
    return {name: found[name] for name in _OF_PIP if found.get(name)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.build")
    parser.add_argument("tag", nargs="?", default=TAG)
    parser.add_argument("arguments", metavar="NAME=VALUE", nargs="*", help="build arguments of the Dockerfile")
    parser.add_argument("--target", choices=["cpu", "gpu", "loadtest"], default="cpu")
    options = parser.parse_args()
    try:
        print(build(options.tag, options.target, dict(one.split("=", 1) for one in options.arguments)))
    except (NoStandIn, BuildFailed) as error:
        sys.exit(f"embedserve: {error}")


if __name__ == "__main__":
    main()

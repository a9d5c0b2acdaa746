"""What an image adds to its base, layer by layer: `python -m deploy.image.layers [TAG …]`. Sizes are unpacked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, NamedTuple

from deploy.image.build import BAKED_TAG, TAG

_MEGABYTE = 1e6


class Layer(NamedTuple):
    """Bytes as they lie on the disk, and the instruction that made it."""

    size: int
    made_by: str


def layers(tag: str) -> list[Layer]:
    """Those with files in them, the base's first layers left out: the newest of them is the last."""
    history: list[dict[str, Any]] = json.loads(_podman("history", "--no-trunc", "--format", "json", tag))
    own = [Layer(int(one["size"]), _instruction(one["CreatedBy"])) for one in reversed(history)]
    first = next(index for index, one in enumerate(own) if one.made_by.startswith("RUN "))
    return [one for one in own[first:] if one.size]


def _instruction(command: str) -> str:
    """As the Dockerfile has it; of what is copied, its place."""
    text = command.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").strip()
    copied = re.fullmatch(r"COPY \S+ in (\S+)\s*", text)
    return f"COPY … {copied[1]}" if copied else text if text.startswith(("ADD ", "COPY ")) else f"RUN {text}"


def _podman(*arguments: str) -> str:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """A table for each image."""
    for tag in sys.argv[1:] or (TAG, BAKED_TAG):
        found = layers(tag)
        print(f"\n{tag}: {sum(one.size for one in found) / _MEGABYTE:.1f} MB without its base")
        for one in found:
            print(f"{one.size / _MEGABYTE:9.1f} MB  {one.made_by:.100}")


if __name__ == "__main__":
    main()

"""Packs OpenAI's cl100k_base.tiktoken into the data file of `service.cl100k`, which describes the format."""

from __future__ import annotations

import argparse
import hashlib
import sys
import zlib
from base64 import b64decode
from pathlib import Path

SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
OUTPUT = Path(__file__).parents[2] / "service" / "data" / "cl100k_base.zlib"


def pack(text: bytes) -> bytes:
    """The packed form of a .tiktoken file: lines of a token in base64, a space and its rank."""
    tokens: list[bytes] = []
    for line in text.splitlines():
        token, rank = line.split()
        if int(rank) != len(tokens):
            raise ValueError(f"rank {int(rank)} follows rank {len(tokens) - 1}")
        tokens.append(b64decode(token))
    lengths = bytes(map(len, tokens))
    return zlib.compress(lengths + b"".join(tokens), 9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="tiktoken downloads the file on first use; the litellm wheel carries it as "
        "litellm/litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4.",
    )
    parser.add_argument("source", type=Path, help=f"cl100k_base.tiktoken, with the sha256 {SHA256}")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write (default: %(default)s)")
    args = parser.parse_args()

    text = args.source.read_bytes()
    if (actual := hashlib.sha256(text).hexdigest()) != SHA256:
        sys.exit(f"{args.source} is not cl100k_base.tiktoken: its sha256 is {actual}")
    packed = pack(text)
    args.output.write_bytes(packed)
    print(f"{args.output}: {len(packed):,} bytes, {len(text):,} before")


if __name__ == "__main__":
    main()

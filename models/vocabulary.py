"""Tokens → ids, as a checkpoint's tokenizer files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.descriptions import read_json, read_tokenizer, refused
from models.tokenizer_file import tokens
from service.bundle import TOKENIZER_JSON

_SPECIAL = ("tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Vocabulary:
    """`filler` is what fills a query up: the token that masks a word, or the last one where there is no such token."""

    ids: Mapping[str, int]
    special: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> Vocabulary:
        """Raises CheckpointError where a file is missing or malformed."""
        return cls(dict(tokens(read_tokenizer(folder / TOKENIZER_JSON))), _special(folder))

    def find(self, token: str) -> int | None:
        """Its id, if it is a token by itself."""
        return self.ids.get(token)

    @property
    def filler(self) -> int:
        """Raises CheckpointError where no such token is named."""
        for role in ("mask_token", "eos_token"):
            token = self.special.get(role)
            if token is not None and token in self.ids:
                return self.ids[token]
        raise refused(_SPECIAL[0], "it names neither a mask_token nor an eos_token for the query expansion")


def _special(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in reversed(_SPECIAL):
        for role, token in read_json(folder / name, optional=True).items():
            text = token.get("content") if isinstance(token, dict) else token
            if role.endswith("_token") and isinstance(text, str):
                found[role] = text
    return found

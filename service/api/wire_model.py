"""The base of everything that goes over the wire as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """Its validator is built when it is first needed: most are there for the documentation alone, and to build all of
    them was a tenth of a start."""

    model_config = ConfigDict(defer_build=True)

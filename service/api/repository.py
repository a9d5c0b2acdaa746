"""Models loaded and unloaded at run time: the model repository extension of the Open Inference Protocol, Triton's.

POST only, with a key of the administrators', and only where such keys are set. A name stands for a model of the
settings, or for a bundle in the folder that they name. What a client may send beside the name in Triton, a
configuration or files, is refused.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, RootModel

from service.api.http import Call, Operation, Reply
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.errors import InvalidInput

_VERSION = "1"


class IndexRequest(WireModel):
    """`ready` leaves out what is not loaded."""

    model_config = ConfigDict(extra="ignore")

    ready: bool = False


class ModelState(WireModel):
    """`state` is READY, LOADING, UNLOADING or UNAVAILABLE, and `reason` says why."""

    name: str
    version: str
    state: str
    reason: str


class Index(RootModel[list[ModelState]]):
    """Every model that is loaded or may be."""


class LoadRequest(WireModel):
    """Nothing but the name, which stands in the path."""

    model_config = ConfigDict(extra="ignore")

    parameters: dict[str, Any] = Field({}, description="Empty: neither a configuration nor files come from clients.")


class UnloadRequest(WireModel):
    """`unload_dependents` changes nothing, as no model depends on another."""

    model_config = ConfigDict(extra="ignore")

    parameters: dict[str, Any] = Field(default_factory=dict)


class Done(WireModel):
    """Nothing to say."""


async def index(call: Call) -> Reply:
    """POST /v2/repository/index."""
    wants_ready = call.body.strip() != b"" and call.parse(IndexRequest).ready
    models = [one._asdict() | {"version": _VERSION} for one in await call.service.registry.listing()]
    return Reply(to_json([one for one in models if one["state"] == "READY" or not wants_ready]))


async def load(call: Call) -> Reply:
    """POST /v2/repository/models/{m}/load: anew, where it is loaded. Answered when requests get it."""
    if call.body.strip() and (given := call.parse(LoadRequest).parameters):
        raise InvalidInput(
            f"A model is loaded as the server's settings say; {next(iter(given))!r} is not.", "parameters"
        )
    await call.service.registry.load(call.path_params["model"])
    return Reply(b"{}")


async def unload(call: Call) -> Reply:
    """POST /v2/repository/models/{m}/unload. Answered when no new request gets it."""
    if call.body.strip():
        call.parse(UnloadRequest)
    await call.service.registry.unload(call.path_params["model"])
    return Reply(b"{}")


OPERATIONS = (
    Operation(
        "POST",
        ("/v2/repository/index",),
        index,
        "List the models that are loaded or may be (Triton)",
        IndexRequest,
        Index,
        is_admin=True,
        places=frozenset({"admin"}),
    ),
    Operation(
        "POST",
        ("/v2/repository/models/{model:path}/load",),
        load,
        "Load a model, or load it anew (Triton)",
        LoadRequest,
        Done,
        is_admin=True,
        places=frozenset({"admin"}),
    ),
    Operation(
        "POST",
        ("/v2/repository/models/{model:path}/unload",),
        unload,
        "Unload a model (Triton)",
        UnloadRequest,
        Done,
        is_admin=True,
        places=frozenset({"admin"}),
    ),
)

"""One process from start to exit: listen, load, announce, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from service import metrics
from service.api.auth import Keys
from service.api.http import Service
from service.bodies import Bodies
from service.bundle import Bundle
from service.channel import ADMIN, CLIENT, READY, REPLACE, WAITING
from service.doors import Doors, open_doors
from service.errors import StartupError
from service.listening import Beside, Listener, uvicorn_config
from service.logs import configure, event, finish, lost_lines, say
from service.member import Member
from service.memory import limit
from service.model import Model
from service.open_files import open_files, raise_limit
from service.protocol import SURPLUS_CONNECTIONS
from service.rate_limits import Limits
from service.registry import Find, Registry
from service.runtime.session import runtime_version
from service.settings import Settings, unknown_variables
from service.telemetry import open_tracer
from service.tls import Certificates, certificates

if TYPE_CHECKING:
    from service.telemetry.tracer import Tracer

# For batches that still run when all requests have been answered: more than one of usual size takes.
_LAST_SECONDS = 5.0
# Seconds after which a thread that cuts up a long document lets the event loop go on; Python's own 5 ms are a
# wait at each of the several steps of every short request, and of those of a model that is opened beside imports.
_SWITCH_INTERVAL = 0.000_5
# Beside clients' connections and what is open before models are loaded: their files, the event loop's, logs.
_OWN_FILES = 48
_SCRAPES = 2  # at a time
_TICKS_BETWEEN_LOOKS = 10  # at the files that are served, of a tenth of a second each


class _Server(Listener):
    """uvicorn, with this order at the end: readiness fails and every reply ends its connection, new connections are
    refused and idle ones closed after a grace, work is finished, the process exits with 0. A second SIGINT ends it at
    once. A member's end is the supervisor's to order, so that connections go to others first."""

    def __init__(self, config: uvicorn.Config, parts: Service, tls: Certificates | None) -> None:
        super().__init__(config, tls)
        self._registry, self._settings, self._member = parts.registry, parts.settings, parts.member
        self._refuse_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not calling uvicorn's own keeps it from raising the signal again, which would make the exit status 143."""
        if self._refuse_at is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
            return
        if self._refuse_at is None:
            self._refuse_at = time.monotonic() + self._settings.drain_grace
            self.leave()

    def leave(self) -> None:
        """Readiness fails, and every reply ends its connection."""
        self._registry.leave()
        self.server_state.is_draining = True
        self.tell()

    def end(self) -> None:
        """No connections come any more."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """When all that was handed over is a protocol's."""
        if self._member is not None:
            await self._member.finish(self._settings.drain_timeout)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn every tenth of a second."""
        if self._member is None and self._refuse_at is not None and time.monotonic() >= self._refuse_at:
            self.should_exit = True
        if counter % _TICKS_BETWEEN_LOOKS == 0:
            self._registry.look_again()
            self.tell()
        return await super().on_tick(counter)

    def tell(self) -> None:
        """The supervisor, if there is one, how this process is."""
        if self._member is not None:
            self._member.tell(self._state())

    def _state(self) -> bytes:
        stuck_for = max(self._registry.stalled_for(), self._registry.failing_for())
        if self._refuse_at is not None or stuck_for > self._settings.stall_timeout:
            return REPLACE
        return READY if self._registry.ready else WAITING


def serve(settings: Settings, bundles: Sequence[Path], find: Find, member: Member | None = None) -> None:
    """Runs until SIGTERM or SIGINT. `bundles` are those of the models that are loaded at the start, `find` as in
    Registry; a `member` has its connections from the supervisor. Raises StartupError: port in use, keys unreadable,
    bundle corrupt."""
    configure(settings.log_level, settings.log_format)
    try:
        _serve(settings, bundles, find, member)
    finally:
        finish()


def _serve(settings: Settings, bundles: Sequence[Path], find: Find, member: Member | None) -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if member is None or member.is_first:
        for name in unknown_variables():
            event(logging.WARNING, f"the variable {name} is no setting of this server, and is ignored")
    tls = certificates(settings.tls_certificate, settings.tls_private_key, settings.tls_client_ca)
    doors = open_doors(settings) if member is None else member.doors
    limits = Limits(settings.requests_per_minute, settings.tokens_per_minute)
    fixed_keys = (key.get_secret_value() for key in settings.api_keys)
    ledger = None if member is None else member.ledger
    keys = Keys(fixed_keys, settings.api_key_file, limits=limits, ledger=ledger)
    admin_keys = _admin_keys(settings, keys)
    registry = Registry(settings, find)
    bodies = Bodies(settings.max_buffered_bytes)
    tracer = open_tracer()
    share = math.ceil(settings.max_connections / settings.processes)
    scrapes = _SCRAPES * 2 * (settings.processes - 1)  # for which each process asks all others
    max_connections = _affordable(share, ports=1 if doors.admin is None else 2, others=scrapes)
    registry.begin(bundles)  # what else can be wrong has been found by now, but for paths at odds
    parts = Service(registry, settings, keys, admin_keys, bodies, tracer, member)
    server, beside = _servers(parts, tls, doors)
    for one in (server, beside):
        if one is not None:
            one.server_state.max_connections = max_connections
            one.server_state.client_timeout = settings.client_timeout
    metrics.HELD_BODY_BYTES.set_function(lambda: float(bodies.held))
    metrics.CONNECTIONS.set_function(lambda: float(len(server.server_state.connections)))
    metrics.LOST_LOG_LINES.set_function(lambda: float(lost_lines()))
    metrics.STALLED_SECONDS.set_function(registry.stalled_for)
    metrics.MEMORY_LIMIT.set(limit())
    metrics.record_build(platform.python_version(), runtime_version())
    if tracer is not None:
        event(logging.INFO, "traces", **tracer.told)
        for outcome, count in tracer.counts().items():
            metrics.SPANS.labels(outcome).set_function(count)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_run_beside(beside, _run(server, beside, parts, bundles, doors)))


def _servers(parts: Service, tls: Certificates | None, doors: Doors) -> tuple[_Server, Beside | None]:
    """Of clients' port, and of the other one where there is one. Raises StartupError where paths are at odds."""
    # Only now: FastAPI and the dialects are a third of the server's imports, and meanwhile the model is opened.
    from service.app import create_app

    config = uvicorn_config(create_app(parts, None if doors.admin is None else "public"), parts.settings)
    server = _Server(config, parts, tls)
    if doors.admin is None:
        return server, None
    config = uvicorn_config(create_app(parts, "admin"), parts.settings)
    return server, Beside(config, tls and tls.without_clients(), doors.admin)  # probes have no certificate


def _affordable(max_connections: int, ports: int, others: int) -> int:
    """As many connections, or those that the limit of open files leaves. Raises StartupError where it leaves none."""
    files = raise_limit()
    if files is None:
        return max_connections
    others += open_files() + _OWN_FILES + ports * SURPLUS_CONNECTIONS
    most = files - others
    if most >= max_connections:
        return max_connections
    if most < 1:
        reason = f"the limit of {files} open files leaves none for clients"
        raise StartupError(reason, f"raise it (ulimit -n) above {others}; 1024 and more are usual")
    event(logging.WARNING, f"of {max_connections} connections the limit of {files} open files leaves {most}")
    return most


def _admin_keys(settings: Settings, keys: Keys) -> Keys | None:
    """Raises StartupError where the file cannot be used, where everybody would be an administrator, and for a folder
    that is none."""
    if (folder := settings.model_dir) is not None and not folder.is_dir():
        raise StartupError(f"the folder of models {folder} does not exist", "mend --model-dir")
    if not (settings.admin_keys or settings.admin_key_file):
        later = any(not one.load_at_start for one in settings.models)
        for name, is_set in (("model_dir", settings.model_dir is not None), ("load_at_start = false", later)):
            if is_set:
                event(logging.WARNING, f"{name} is of no use without admin_keys: nothing else loads models at run time")
        return None
    fixed = (key.get_secret_value() for key in settings.admin_keys)
    found = Keys(fixed, settings.admin_key_file, "--admin-key-file")
    found.keep_apart(keys)
    return found


async def _run_beside(beside: Beside | None, run: Coroutine[Any, Any, None]) -> None:
    async with beside.running() if beside else nullcontext():
        await run


async def _run(server: _Server, beside: Beside | None, parts: Service, bundles: Sequence[Path], doors: Doors) -> None:
    """Answers 503 from the first moment on, and vectors as soon as the models are loaded."""
    registry, member = parts.registry, parts.member
    serving = asyncio.create_task(server.serve(sockets=doors.client))
    if member is not None:
        _take_from(member, server, beside)
    loading = asyncio.create_task(registry.start(bundles))
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        _exit(0, "stopped while loading")  # the thread that loads cannot be interrupted, and nothing can be lost
    try:
        models = loading.result()
    except StartupError:
        server.should_exit = True
        await serving
        raise
    gc.freeze()  # modules and models stay; looking through them again stopped every thread for 50 ms
    gc.enable()
    seconds = metrics.seconds_since_process_start()
    metrics.READY.set_function(lambda: float(registry.ready))
    metrics.START_SECONDS.set(seconds)
    if not serving.done():
        server.tell()
        _announce(models, doors.urls, seconds, member)
    await serving
    if server.force_exit:
        _exit(130, "stopped at once; what was queued is lost")
    _, is_closed = await asyncio.gather(_sent(parts.tracer), _closed(registry))
    if not is_closed:
        _exit(0, "stopped without waiting for a batch that does not end; all requests have been answered")
    if registry.is_loading:
        _exit(0, "stopped while loading")
    event(logging.INFO, "stopped")


def _take_from(member: Member, server: _Server, beside: Beside | None) -> None:
    for one in (server, beside):
        if one is not None:
            one.server_state.closed = member.closed
    doors = {CLIENT: server.take} | ({} if beside is None else {ADMIN: beside.take})
    member.begin(doors, server.leave, server.end)
    server.tell()


async def _closed(registry: Registry) -> bool:
    """Whether what runs has ended in time. Nobody waits for it any more: those who did have been told so."""
    closing = asyncio.create_task(registry.close())
    await asyncio.wait({closing}, timeout=_LAST_SECONDS)
    return closing.done()


async def _sent(tracer: Tracer | None) -> None:
    """The last spans, where there are any: all requests have been answered."""
    if tracer is not None:
        await asyncio.to_thread(tracer.close, _LAST_SECONDS)


def _exit(status: int, why: str) -> NoReturn:
    """Ends the process without waiting for its threads."""
    event(logging.INFO, why)
    finish()
    os._exit(status)


def _to_try(bundle: Bundle) -> tuple[str, str]:
    """A path that answers for such a model, and a body for it."""
    match bundle.task:
        case "embedding":
            return "/v1/embeddings", '{"input": "Hello, world"}'
        case "sparse":
            return "/embed_sparse", '{"inputs": "Hello, world"}'
        case "tokens":
            return "/v1/multi-vector", '{"input": "Hello, world"}'
        case "score" if len(bundle.labels) == 1:
            return "/v1/rerank", '{"query": "Who is it?", "documents": ["Hello, world", "It is me."]}'
        case "score":
            return "/predict", '{"inputs": "Hello, world"}'


def _announce(models: Sequence[Model], urls: Mapping[str, str], seconds: float, member: Member | None) -> None:
    url = urls["url"]
    first, *others = [model.name for model in models]
    more: dict[str, object] = {"models": [first, *others]} if others else {}
    if member is not None:
        more["process"] = member.number
    event(logging.INFO, "ready", **urls, model=first, seconds=round(seconds, 2), **more)
    if member is not None and not member.is_first:
        return
    path, body = _to_try(models[0].bundle)
    say(
        f"{first} is ready at {url} after {seconds:.1f} s. Try: curl {url}{path} "
        f"-H 'content-type: application/json' -d '{body}'"
    )
    if "admin_url" in urls:
        say(f"Probes, metrics and administrators: {urls['admin_url']}")
    if others:
        say(f"Beside it: {', '.join(others)}")

"""Served names → loaded models, which come and go while others answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from service import metrics
from service.bundle import Use, is_bundle, read_bundle
from service.device import Device
from service.errors import BundleError, CheckHangs, LoadFailed, ModelNotFound, StartupError, Unavailable
from service.logs import event
from service.memory import release
from service.model import Model, assemble
from service.naming import Claim, assign
from service.opening import Parts, device_executors, open_bundle
from service.placement import warn_of_two_wheels
from service.settings import ServedModel, Settings
from service.tuning import CHOICES

# Loading takes about a second; a client that is told to wait for one finds the model ready.
_RETRY_WHEN_LOADING = 1.0
_NOT_LOADED = "not loaded"


State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
"""Triton's words."""

Find = Callable[[ServedModel], Path]
"""The bundle of a model, as it is now. Blocks; raises StartupError."""


class Listed(NamedTuple):
    """One line of what there is; `reason` says why a model is not there, or what its last load failed with."""

    name: str
    state: State
    reason: str


def _announce(model: Model, parts: Parts) -> None:
    """Says where and how batches will be run, and where each figure came from: `executors_from` is set, tuned,
    default, or device where several models share what one of them decided."""
    chosen = parts.plan
    event(logging.INFO, "device", model=model.name, device=str(parts.placed.device), because=parts.placed.because)
    warn_of_two_wheels()
    values = {name: getattr(chosen, name) for name in CHOICES}
    sources = {f"{name}_from": source for name, source in chosen.sources.items()}
    event(
        logging.INFO,
        "batches",
        model=model.name,
        **values,
        lone_threads=chosen.lone_threads,
        batch_overhead=chosen.costs.overhead,
        **sources,
    )


def _holds_bundle(folder: Path) -> bool:
    """What nobody may look into, as a disk's lost+found, is none."""
    try:
        return is_bundle(folder)
    except BundleError:
        return False


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class _Slot:
    """A place for a model: what it is called, and which one answers now, if any does."""

    settings: ServedModel
    names: list[str]  # its own first
    uses: tuple[Use, ...] = ()  # of the first model here: one of another kind in its place changes nobody's default
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # of whoever loads or unloads
    model: Model | None = None
    is_loading: bool = False
    next_load: asyncio.Task[None] | None = None  # one that has not begun
    leaving: int = 0  # models that were here and still have requests
    reason: str = _NOT_LOADED
    hangs: Callable[[], bool] = _never  # whether the thread of a load still does

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def state(self) -> State:
        if self.model is not None:
            return "READY"
        if self.is_loading:
            return "LOADING"
        return "UNLOADING" if self.leaving else "UNAVAILABLE"


class Registry:
    """The models of this process, and whether it takes requests. Owned by the event loop.

    A model that is replaced or unloaded gets no new requests from that moment on, finishes those it has, and is then
    let go of. Which bundle a name stands for is said by the settings, or by the folder that they name, never by a
    client.
    """

    def __init__(self, settings: Settings, find: Find | None = None) -> None:
        """`find` gives the bundle of a model that is loaded at run time."""
        self._settings = settings
        self._find = find
        self._slots: dict[str, _Slot] = {}
        self._names: dict[str, _Slot] = {}
        self._at_start: list[_Slot] = []  # those that are loaded at the start
        self._begun: Future[Parts] | None = None  # the lone model's
        self._is_started = False
        self._left = asyncio.Event()
        self._look: asyncio.Task[None] | None = None
        self._devices: dict[str, Device[Any]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._going: dict[int, Model] = {}  # those that finish what they have

    # --- whom requests are for --------------------------------------------------------------------------------

    def get(self, name: str | None, *uses: Use) -> Model:
        """None is the first model of one of these uses, or else the first one, whatever it is for.

        What is asked of it is never answered by another, should it be unloaded: that would be wrong vectors. Raises
        ModelNotFound; Unavailable while it is loading, and once its files are not what they were.
        """
        slot = self._names.get(name) if name is not None else self._default(uses)
        if slot is not None and slot.model is not None:
            if slot.model.files.damage is not None:
                raise Unavailable("The model's files were changed while it was served.", _RETRY_WHEN_LOADING)
            return slot.model
        if not self._slots or (slot is not None and slot.is_loading):
            raise Unavailable("The model is still loading.", _RETRY_WHEN_LOADING)
        raise ModelNotFound(slot.name if slot is not None else name or "")

    def _default(self, uses: Sequence[Use]) -> _Slot:
        """Of those that are loaded at the start, as what is loaded later must change nobody's default. Raises
        Unavailable."""
        if not self._is_started:
            raise Unavailable("The model is still loading.", _RETRY_WHEN_LOADING)  # which of them it will be
        for slot in self._at_start:
            for use in uses:
                if use in slot.uses:
                    return slot
        return self._at_start[0]

    def models(self) -> list[Model]:
        """Those that are loaded, the file's in its order."""
        return [slot.model for slot in self._slots.values() if slot.model is not None]

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests here: all that are loaded at the start have been, and one at
        least works. What happens at run time to one of several models takes the others from nobody."""
        if not self._is_started or self.is_leaving or self.stalled_for() > self._settings.stall_timeout:
            return False  # what has stalled is restarted
        return len(self.failing()) < len(self.models())

    def failing(self) -> dict[str, float]:
        """Models whose runtime fails on everything → the seconds since it began to."""
        found = {one.name: one.failing_for() for one in self.models()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def failing_for(self) -> float:
        """Seconds since the last of all models began to fail on everything; 0 where one works."""
        failing = self.failing()
        return min(failing.values(), default=0.0) if len(failing) == len(self.models()) else 0.0

    def look_again(self) -> None:
        """Begins to look whether files that are served have been written to, unless that is still going on."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_at_files())

    async def _look_at_files(self) -> None:
        for model in self.models():
            if model.files.damage is None:
                await asyncio.to_thread(model.files.look_again)
                if model.files.damage is not None:
                    event(logging.ERROR, f"{model.files.damage}; it answers no more requests", model=model.name)

    @property
    def is_leaving(self) -> bool:
        """Whether the process is about to end."""
        return self._left.is_set()

    @property
    def is_loading(self) -> bool:
        """Whether a thread is at it, which cannot be interrupted."""
        return any(slot.is_loading or slot.hangs() for slot in self._slots.values())

    def stalled_for(self) -> float:
        """Seconds that the slowest of what runs has been running: a batch, or what reads a long text."""
        return max((one.stalled_for() for one in (*self.models(), *self._going.values())), default=0.0)

    # --- start and end ----------------------------------------------------------------------------------------

    def begin(self, folders: Sequence[Path]) -> None:
        """Where one model is all there will be, a thread opens its bundle from now on, for a caller who has more to
        do before `start`: that waits for the thread, and raises what it raised."""
        if not self._has_several and len(folders) == 1:
            (folder,), (settings,) = folders, self._settings.served()
            self._begun = ThreadPoolExecutor(1, "begin").submit(
                open_bundle, folder, settings, {}, self._settings.processes
            )

    async def start(self, folders: Sequence[Path]) -> list[Model]:
        """Opens the bundles of the models that are loaded at the start, beside the event loop and beside each other.

        Whoever would load or unload one of them waits. Raises BundleError, StartupError: for one that fails, all do.
        """
        served = self._settings.served()
        bundles = iter(read_bundle(folder) for folder in folders)
        ids = [next(bundles).model_id if one.load_at_start else None for one in served]
        claims = [Claim(one.name, one.aliases, made_from) for one, made_from in zip(served, ids, strict=True)]
        for settings, names in zip(served, assign(claims), strict=True):
            self._add(_Slot(settings, names))
        first = self._at_start = [slot for slot in self._slots.values() if slot.settings.load_at_start]
        for slot in first:
            slot.is_loading, slot.reason = True, ""
        try:
            opened = await self._open_all(first, folders)
        except StartupError:
            self.leave()  # nobody's load begins now, for which the process would have to wait
            raise
        self._is_started = True
        return opened

    async def _open_all(self, slots: Sequence[_Slot], folders: Sequence[Path]) -> list[Model]:
        async with AsyncExitStack() as locks:
            for slot in slots:
                await locks.enter_async_context(slot.lock)  # which is free, so that nobody comes between
            executors = await self._executors(slots, folders) if self._has_several else {}
            return await asyncio.gather(*(self._first(*one, executors) for one in zip(slots, folders, strict=True)))

    @property
    def _has_several(self) -> bool:
        """Whether models may share a device, now or later."""
        return len(self._settings.served()) > 1 or self._settings.model_dir is not None

    async def _executors(self, slots: Sequence[_Slot], folders: Sequence[Path]) -> dict[str, int]:
        """Of each device, as the first of its models would have it. Raises StartupError."""
        found: dict[str, int] = {}
        for slot, folder in zip(slots, folders, strict=True):
            try:
                device, executors = await asyncio.to_thread(
                    device_executors, folder, slot.settings, self._settings.processes
                )
            except StartupError as error:
                self._blame(slot, error)
                raise
            found.setdefault(device, executors)
        return found

    def _blame(self, slot: _Slot, error: StartupError) -> None:
        """Where there are several models, the error names its own."""
        if len(self._slots) > 1:
            error.message = f"{slot.name}: {error.message}"
            error.args = (f"{error.message}\n  → {error.remedy}",)

    async def _first(self, slot: _Slot, folder: Path, executors: Mapping[str, int]) -> Model:
        started = time.monotonic()
        try:
            model = self._put(slot, await self._opened(slot, folder, executors), slot.names)
        except StartupError as error:
            self._blame(slot, error)
            raise
        finally:
            slot.is_loading = False
        if len(self._slots) > 1:
            event(logging.INFO, "loaded", model=slot.name, seconds=round(time.monotonic() - started, 2))
        return model

    async def _opened(self, slot: _Slot, folder: Path, executors: Mapping[str, int]) -> Parts:
        if self._begun is None:
            return await asyncio.to_thread(open_bundle, folder, slot.settings, executors, self._settings.processes)
        begun, self._begun = self._begun, None  # to keep it would keep the model, unloaded or not
        return await asyncio.wrap_future(begun)

    def leave(self) -> None:
        """From now on readiness fails. What still arrives is answered, until connections are refused."""
        self._left.set()

    async def close(self) -> None:
        """Finishes what is queued, ends the executors."""
        for model in self.models():
            await model.close()
        await asyncio.gather(*self._retiring)
        for device in self._devices.values():
            device.close()

    # --- at run time ------------------------------------------------------------------------------------------

    async def load(self, name: str) -> None:
        """Loads a model of the settings' or of their folder anew, and puts it in the place of the one that is served.

        Returns when new requests get it. Of calls that wait for the same load to begin, all get that one. Raises
        ModelNotFound, Unavailable, LoadFailed; then what was served still is. One that hangs in its golden texts has
        failed after `stall_timeout`, and takes nobody else with it, as a restart would: the others answer.
        """
        slot = self._slots.get(name) or await self._from_folder(name)
        if slot.next_load is None:
            slot.next_load = asyncio.create_task(self._load(slot))
            slot.next_load.add_done_callback(_log_failure)
        load, left = slot.next_load, asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({load, left}, return_when=asyncio.FIRST_COMPLETED)  # cancels neither, if it is cancelled
        finally:
            left.cancel()
        if not load.done():
            self._check_open()
        load.result()

    async def unload(self, name: str) -> None:
        """From now on it is not found; what was asked before is answered. Raises ModelNotFound, Unavailable."""
        if (slot := self._slots.get(name)) is None:
            raise ModelNotFound(name)
        async with slot.lock:
            self._check_open()
            self._retire(slot)
            self._rename(slot, Claim(slot.name, slot.settings.aliases).asked)
            slot.reason = "unloaded"
            event(logging.INFO, "unloaded", model=slot.name)

    async def listing(self) -> list[Listed]:
        """Every model that is served or may be loaded."""
        more = await asyncio.to_thread(self._folders)
        known = [Listed(slot.name, slot.state, slot.reason) for slot in self._slots.values()]
        return known + [Listed(name, "UNAVAILABLE", _NOT_LOADED) for name in sorted(more) if name not in self._slots]

    async def _load(self, slot: _Slot) -> None:
        async with slot.lock:
            slot.next_load = None
            self._check_open()
            if slot.hangs():  # each keeps a thread, and the memory of a model
                raise LoadFailed(slot.name, "its last load still hangs in the runtime", "restart the server")
            slot.is_loading = True
            try:
                parts = await asyncio.to_thread(self._open_anew, slot.settings)
                self._check_open()
                self._put(slot, parts, self._names_of(slot, parts.bundle.model_id))
            except StartupError as error:
                slot.reason = str(error)
                if isinstance(error, CheckHangs):
                    slot.hangs = error.goes_on
                raise LoadFailed(slot.name, error.message, error.remedy) from error
            finally:
                slot.is_loading = False
        event(logging.INFO, "loaded", model=slot.name)

    def _open_anew(self, settings: ServedModel) -> Parts:
        """On a thread."""
        folder = self._find(settings) if self._find else Path(settings.model)
        executors = {name: one.executors for name, one in self._devices.items()}
        return open_bundle(folder, settings, executors, patience=self._settings.stall_timeout)

    async def _from_folder(self, name: str) -> _Slot:
        """A slot for a bundle of the settings' folder. Raises ModelNotFound, LoadFailed."""
        folders = await asyncio.to_thread(self._folders)
        if name in self._slots:  # meanwhile
            return self._slots[name]
        if name not in folders:
            raise ModelNotFound(name)
        if name in self._names:
            raise LoadFailed(name, f"{name!r} is a name of {self._names[name].name}", "rename the folder")
        settings = self._settings.for_model(str(folders[name]), {"name": name})
        return self._add(_Slot(settings, [name]))

    def _folders(self) -> dict[str, Path]:
        """Names → bundles: what a client sends is compared with them, and never becomes a path."""
        if (shelf := self._settings.model_dir) is None:
            return {}
        try:
            found = [path for path in shelf.iterdir() if not path.name.startswith(".")]
        except OSError as error:  # removed, or unmounted; what is served needs it no more
            event(logging.WARNING, f"model_dir {shelf} cannot be read: {error.strerror}")
            return {}
        return {path.name: path for path in found if _holds_bundle(path)}

    # --- slots ------------------------------------------------------------------------------------------------

    def _add(self, slot: _Slot) -> _Slot:
        self._slots[slot.name] = slot
        self._names |= dict.fromkeys(slot.names, slot)
        return slot

    def _put(self, slot: _Slot, parts: Parts, names: list[str]) -> Model:
        """From now on the model answers to these names, in place of the one before. Raises StartupError."""
        where = str(parts.placed.device)
        if where not in self._devices:
            self._devices[where] = Device(parts.plan.executors, where)
            metrics.EXECUTORS.labels(where).set(parts.plan.executors)
        device = self._devices[where]
        model = assemble(parts, slot.name, names[1:], slot.settings, self._settings.max_request_tokens, device)
        self._retire(slot)
        slot.model, slot.uses, slot.reason = model, slot.uses or model.bundle.uses, ""
        self._rename(slot, names)
        _announce(model, parts)
        return model

    def _names_of(self, slot: _Slot, model_id: str) -> list[str]:
        """With that of what it was made from, where no other model is called so, or was made from it as well."""
        others = [one for one in self._slots.values() if one is not slot]
        made_from = {one.model.bundle.model_id for one in others if one.model is not None}
        taken = made_from.union(*(one.names for one in others))
        asked = Claim(slot.name, slot.settings.aliases).asked
        return asked if model_id in taken or model_id in asked else [*asked, model_id]

    def _rename(self, slot: _Slot, names: list[str]) -> None:
        for name in slot.names:
            del self._names[name]
        slot.names = names
        self._names |= dict.fromkeys(names, slot)

    def _retire(self, slot: _Slot) -> None:
        """Whoever has its model finishes with it; then it goes."""
        if (model := slot.model) is None:
            return
        slot.model = None
        slot.leaving += 1
        task = asyncio.create_task(self._let_go(slot, model))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _let_go(self, slot: _Slot, model: Model) -> None:
        self._going[id(model)] = model
        await model.usage.over()
        await model.close()
        del self._going[id(model)], model
        release()
        slot.leaving -= 1
        if slot.model is None:
            metrics.forget_model(slot.name)
        event(logging.INFO, "let go", model=slot.name)

    def _check_open(self) -> None:
        if self.is_leaving:
            raise Unavailable("The server is shutting down.", retry_after=1.0)


def _log_failure(load: asyncio.Task[None]) -> None:
    """Whether or not who asked for it still waits."""
    if not load.cancelled() and isinstance(error := load.exception(), LoadFailed):
        event(logging.ERROR, str(error), model=error.name)

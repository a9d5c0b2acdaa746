"""Served names → loaded models. The only place that assembles a model from its parts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

from service import metrics
from service.batcher import Batcher, Results, Rows
from service.bundle import (
    OUTPUTS,
    RECOMPILE,
    TOKEN_OUTPUT,
    Bundle,
    Task,
    is_bundle,
    read_bundle,
    verify_files,
)
from service.cache import Cache
from service.cores import usable_cores
from service.device import Device
from service.device_name import DeviceName
from service.encoder import Encoder
from service.errors import (
    BundleError,
    InferenceError,
    InputTooLong,
    InvalidInput,
    LoadFailed,
    ModelNotFound,
    StartupError,
    Unavailable,
    WrongTask,
)
from service.late_embedding import LateEmbedder
from service.logs import event
from service.long_input import cut, rules_of
from service.memory import release
from service.naming import Claim, assign
from service.pipeline import Embedder
from service.placement import execution_on, warn_of_two_wheels
from service.reader import Reader
from service.runtime.preflight import Choice, choose, gpu_name
from service.runtime.session import runtime_version
from service.scheduling import Share
from service.scoring import Scorer
from service.settings import ModelSettings, ServedModel, Settings
from service.sparse_embedding import SparseEmbedder, sparsely
from service.tokenizer import Tokenizer, open_tokenizer
from service.tuning import CHOICES, Plan, plan, read_tuning, this_machine
from service.types import EmbedRequest, LongInput
from service.usage import Usage
from service.workers import Workers

# Loading takes about a second; a client that is told to wait for one finds the model ready.
_RETRY_WHEN_LOADING = 1.0
_NOT_LOADED = "not loaded"
_A_TEXT = "a text"
_CHARACTERS_PER_TOKEN = 4  # of English, about


State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
"""Triton's words."""

Find = Callable[[ServedModel], Path]
"""The bundle of a model, as it is now. Blocks; raises StartupError."""


class Listed(NamedTuple):
    """One line of what there is; `reason` says why a model is not there, or what its last load failed with."""

    name: str
    state: State
    reason: str


# Task → what such a model is called, and where it answers.
_KINDS: dict[Task, tuple[str, str]] = {
    "embedding": ("an embedding model", "/v1/embeddings and the other routes of embeddings"),
    "sparse": ("a model of sparse embeddings", "/embed_sparse"),
    "tokens": ("a model of vectors of tokens", "/v1/multi-vector and /embed_all"),
    "score": ("a reranker or a classifier", "/v1/rerank, /v2/rerank, /rerank, /score and /predict"),
}
_Kind = TypeVar("_Kind", bound=Reader)
Run = Callable[[Rows], Results]


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded model; `created` in Unix seconds."""

    name: str
    aliases: tuple[str, ...]
    created: int
    bundle: Bundle
    reader: Reader  # what answers for the bundle's task
    batchers: tuple[Batcher, ...]
    workers: Workers
    usage: Usage = field(default_factory=Usage)  # of requests that have it

    @property
    def embedder(self) -> Embedder:
        """Raises WrongTask."""
        return self._as(Embedder, "embeddings")

    @property
    def sparse_embedder(self) -> SparseEmbedder:
        """Raises WrongTask."""
        return self._as(SparseEmbedder, "sparse vectors")

    @property
    def late_embedder(self) -> LateEmbedder:
        """Raises WrongTask."""
        return self._as(LateEmbedder, "vectors of tokens")

    @property
    def scorer(self) -> Scorer:
        """Raises WrongTask."""
        return self._as(Scorer, "scores")

    @property
    def ranker(self) -> Scorer:
        """A scorer of one label, which is the relevance. Raises WrongTask."""
        scorer = self._as(Scorer, "ranking")
        if self.bundle.dimensions != 1:
            raise WrongTask(self.name, "a classifier", "ranking", "/predict")
        return scorer

    def _as(self, kind: type[_Kind], asked: str) -> _Kind:
        if isinstance(self.reader, kind):
            return self.reader
        is_a, routes = _KINDS[self.bundle.task]
        raise WrongTask(self.name, is_a, asked, routes)


@dataclass(frozen=True, slots=True)
class Parts:
    """What opening a bundle gives, before there is an event loop to serve on."""

    bundle: Bundle
    placed: Choice
    plan: Plan
    tokenizer: Tokenizer
    encoder: Encoder


def open_bundle(folder: Path, settings: ModelSettings, executors: Mapping[str, int] = MappingProxyType({})) -> Parts:
    """Verifies the files, loads tokenizer and graph, and runs one row to warm up. Blocks.

    `executors` says how many the devices have already. Raises BundleError, and StartupError for settings that this
    model cannot be served with.
    """
    try:
        bundle = _with_prompts(read_bundle(folder), settings)
        with ThreadPoolExecutor(1) as beside:
            verified = beside.submit(verify_files, folder, bundle)
            try:
                return _open(folder, bundle, settings, executors)
            finally:
                verified.result()  # a damaged file is the reason for whatever else failed
    except BundleError as error:
        error.folder = folder
        raise


def _with_prompts(bundle: Bundle, settings: ModelSettings) -> Bundle:
    """The settings' prompts beside the bundle's own. Raises StartupError."""
    if bundle.task == "score" and (settings.prompts or settings.default_prompt_name):
        reason = f"{bundle.model_id} is a reranker or a classifier, which has no prompts"
        raise StartupError(reason, "leave prompts and default_prompt_name out")
    prompts = bundle.prompts | settings.prompts
    default = settings.default_prompt_name or bundle.default_prompt_name
    if default is not None and default not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        reason = f"{bundle.model_id} has no prompt {default!r} to be the default; there are: {known}"
        raise StartupError(reason, "mend default_prompt_name, or add the prompt to prompts")
    return bundle.model_copy(update={"prompts": prompts, "default_prompt_name": default})


def _open(folder: Path, bundle: Bundle, settings: ModelSettings, executors: Mapping[str, int]) -> Parts:
    tokenizer = open_tokenizer(folder, bundle)
    _check_settings(settings, bundle, tokenizer)
    placed = choose(settings.device, bundle.target)
    chosen = _plan(folder, settings, placed.device, executors.get(str(placed.device)))
    execution = execution_on(
        placed.device,
        folder,
        bundle,
        max_batch_tokens=chosen.max_batch_tokens,
        memory_limit=settings.gpu_memory_limit,
    )
    encoder = Encoder(folder, bundle, execution, chosen.intra_op_threads, chosen.lone_threads)
    try:
        encoder.run([[*tokenizer.prefix, *tokenizer.suffix] or [bundle.pad_token_id]])
    except InferenceError as error:
        raise BundleError(f"{folder} cannot be run: {error.detail}", RECOMPILE) from error
    return Parts(bundle, placed, chosen, tokenizer, encoder)


def _plan(folder: Path, settings: ModelSettings, device: DeviceName, executors: int | None = None) -> Plan:
    """What the user set, what was measured on this machine, what is usual: in this order. Never fails.

    `executors` that the device has already are as good as set.
    """
    try:
        tuning = read_tuning(folder, this_machine(runtime_version(), gpu=gpu_name(device)))
    except BundleError as error:
        event(logging.WARNING, f"what was measured is ignored: {error.message}", remedy=error.remedy)
        tuning = None
    on_gpu = device.kind != "cpu"
    values, told = settings.model_dump(include=set(CHOICES)), settings.model_fields_set
    if executors is None:
        return plan(values, told, tuning, on_gpu=on_gpu)
    found = plan(values | {"executors": executors}, told | {"executors"}, tuning, on_gpu=on_gpu)
    return replace(found, sources={**found.sources, "executors": "device"})


def _executors(folders: Sequence[Path], settings: Sequence[ModelSettings]) -> dict[str, int]:
    """Of each device, as the first of its models would have it. Raises BundleError, StartupError."""
    found: dict[str, int] = {}
    for folder, mine in zip(folders, settings, strict=True):
        device = choose(mine.device, read_bundle(folder).target).device
        if str(device) not in found:
            found[str(device)] = _plan(folder, mine, device).executors
    return found


def _check_settings(settings: ModelSettings, bundle: Bundle, tokenizer: Tokenizer) -> None:
    """What a request would be refused for, whoever sends it."""
    plain = EmbedRequest([], long_input=LongInput.CHUNK)
    try:
        rules = rules_of(plain.wishes, settings, bundle, tokenizer.prefix, tokenizer.suffix)
        for prompt in ("", *bundle.prompts.values()):
            cut(tokenizer.encode([_A_TEXT], [prompt], 0)[0], _A_TEXT, rules, room=rules.max_chunks)
    except (InvalidInput, InputTooLong) as error:
        remedy = "mend --chunk-max-tokens, --chunk-overlap, --max-input-tokens or --late-chunking"
        raise StartupError(f"the settings do not fit the model {bundle.model_id}: {error}", remedy) from None


def assemble(
    parts: Parts, name: str, aliases: Sequence[str], settings: ServedModel, max_tokens: int, device: Device[Any]
) -> Model:
    """Parts → a model that answers, on executors that it shares. `max_tokens` as in Embedder."""
    chosen, encoder = parts.plan, parts.encoder
    cache = _cache(name, settings.cache_bytes)
    share = Share(settings.weight)

    def batcher(run: Run, run_lone: Run, output: str, model: str) -> Batcher:
        return Batcher(
            run,
            run_lone,
            model=model,
            device=device,
            share=share,
            max_batch_tokens=chosen.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            cache=cache,
            cache_scope=_scope(parts.bundle, output),
            batch_overhead=chosen.batch_overhead,
        )

    bundle, tokenizer = parts.bundle, parts.tokenizer
    workers = Workers(usable_cores(), _CHARACTERS_PER_TOKEN * settings.max_queue_tokens, name)
    runs: tuple[Run, Run] = encoder.run, encoder.run_lone
    if bundle.task == "sparse":
        runs = sparsely(encoder.run), sparsely(encoder.run_lone)
    elif bundle.task == "tokens":
        runs = encoder.run_tokens, encoder.run_lone_tokens
    results = batcher(*runs, OUTPUTS[bundle.task][0], name)
    reader: Reader
    batchers: tuple[Batcher, ...] = (results,)
    if bundle.task == "embedding":
        states = batcher(encoder.run_tokens, encoder.run_tokens, TOKEN_OUTPUT, f"{name} (tokens)")
        reader = Embedder(bundle, tokenizer, results, states, workers, settings, max_tokens)
        batchers = results, states
    elif bundle.task == "sparse":
        reader = SparseEmbedder(bundle, tokenizer, results, workers, settings, max_tokens)
    elif bundle.task == "tokens":
        reader = LateEmbedder(bundle, tokenizer, results, workers, settings, max_tokens)
    else:
        reader = Scorer(bundle, tokenizer, results, workers, settings, max_tokens)
    metrics.MODEL_INFO.forget("model", name)  # of the one that it replaces
    metrics.MODEL_INFO.labels(
        name, bundle.model_id, bundle.precision, bundle.target, bundle.dimensions, bundle.max_seq_length
    ).set(1)
    return Model(name, tuple(aliases), int(time.time()), bundle, reader, batchers, workers)


def _cache(name: str, max_bytes: int) -> Cache | None:
    """None for 0 bytes."""
    if not max_bytes:
        return None
    cache = Cache(max_bytes)
    metrics.CACHE_BYTES.labels(name).set_function(lambda: cache.size)
    metrics.CACHE_ENTRIES.labels(name).set_function(lambda: len(cache))
    return cache


def _scope(bundle: Bundle, output: str) -> bytes:
    """16 bytes that stand for an output of the very files of a bundle."""
    files = json.dumps([output, sorted(bundle.files.items())])
    return hashlib.sha256(files.encode()).digest()[:16]


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
        batch_overhead=chosen.batch_overhead,
        **sources,
    )


@dataclass(slots=True, eq=False)
class _Slot:
    """A place for a model: what it is called, and which one answers now, if any does."""

    settings: ServedModel
    names: list[str]  # its own first
    task: Task | None = None  # of the model that is or was here
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # of whoever loads or unloads
    model: Model | None = None
    is_loading: bool = False
    next_load: asyncio.Task[None] | None = None  # one that has not begun
    leaving: int = 0  # models that were here and still have requests
    reason: str = _NOT_LOADED

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
        self._is_started = False
        self._left = asyncio.Event()
        self._devices: dict[str, Device[Any]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._going: dict[int, Model] = {}  # those that finish what they have

    # --- whom requests are for --------------------------------------------------------------------------------

    def get(self, name: str | None, *tasks: Task) -> Model:
        """None is the first model of these tasks, or else the first one, whatever it is for.

        What is asked of it is never answered by another, should it be unloaded: that would be wrong vectors. Raises
        ModelNotFound; Unavailable while it is loading.
        """
        slot = self._names.get(name) if name is not None else self._default(tasks)
        if slot is not None and slot.model is not None:
            return slot.model
        if not self._slots or (slot is not None and slot.is_loading):
            raise Unavailable("The model is still loading.", _RETRY_WHEN_LOADING)
        raise ModelNotFound(slot.name if slot is not None else name or "")

    def _default(self, tasks: Sequence[Task]) -> _Slot:
        """Of those that are loaded at the start, as what is loaded later must change nobody's default. Raises
        Unavailable."""
        if not self._is_started:
            raise Unavailable("The model is still loading.", _RETRY_WHEN_LOADING)  # which of them it will be
        return next((slot for slot in self._at_start if slot.task in tasks), self._at_start[0])

    def models(self) -> list[Model]:
        """Those that are loaded, the file's in its order."""
        return [slot.model for slot in self._slots.values() if slot.model is not None]

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests here: all that are loaded at the start have been. What is done
        at run time to one of several models takes the others from nobody."""
        return self._is_started and not self.is_leaving and bool(self.models())

    @property
    def is_leaving(self) -> bool:
        """Whether the process is about to end."""
        return self._left.is_set()

    @property
    def is_loading(self) -> bool:
        """Whether a thread is at it, which cannot be interrupted."""
        return any(slot.is_loading for slot in self._slots.values())

    def stalled_for(self) -> float:
        """Seconds that the slowest running batch has been running."""
        models = [*self.models(), *self._going.values()]
        return max((one.stalled_for() for model in models for one in model.batchers), default=0.0)

    # --- start and end ----------------------------------------------------------------------------------------

    async def start(self, folders: Sequence[Path]) -> list[Model]:
        """Opens the bundles of the models that are loaded at the start, beside the event loop and beside each other.

        Raises BundleError, StartupError: for one that fails, all do.
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
        executors: Mapping[str, int] = {}
        if len(served) > 1 or self._settings.model_dir is not None:
            executors = await asyncio.to_thread(_executors, folders, [slot.settings for slot in first])
        opened = await asyncio.gather(*(self._first(*one, executors) for one in zip(first, folders, strict=True)))
        self._is_started = True
        return opened

    async def _first(self, slot: _Slot, folder: Path, executors: Mapping[str, int]) -> Model:
        started = time.monotonic()
        try:
            parts = await asyncio.to_thread(open_bundle, folder, slot.settings, executors)
            model = self._put(slot, parts, slot.names)
        except StartupError as error:
            if len(self._slots) > 1:
                error.message = f"{slot.name}: {error.message}"
                error.args = (f"{error.message}\n  → {error.remedy}",)
            raise
        finally:
            slot.is_loading = False
        if len(self._slots) > 1:
            event(logging.INFO, "loaded", model=slot.name, seconds=round(time.monotonic() - started, 2))
        return model

    def leave(self) -> None:
        """From now on readiness fails. What still arrives is answered, until connections are refused."""
        self._left.set()

    async def close(self) -> None:
        """Finishes what is queued, ends the executors."""
        for model in self.models():
            await _end(model)
        await asyncio.gather(*self._retiring)
        for device in self._devices.values():
            device.close()

    # --- at run time ------------------------------------------------------------------------------------------

    async def load(self, name: str) -> None:
        """Loads a model of the settings' or of their folder anew, and puts it in the place of the one that is served.

        Returns when new requests get it. Of calls that wait for the same load to begin, all get that one. Raises
        ModelNotFound, Unavailable, LoadFailed; then what was served still is.
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
            slot.is_loading = True
            try:
                parts = await asyncio.to_thread(self._open_anew, slot.settings)
                self._check_open()
                self._put(slot, parts, self._names_of(slot, parts.bundle.model_id))
            except StartupError as error:
                slot.reason = str(error)
                raise LoadFailed(slot.name, error.message, error.remedy) from error
            finally:
                slot.is_loading = False
        event(logging.INFO, "loaded", model=slot.name)

    def _open_anew(self, settings: ServedModel) -> Parts:
        """On a thread."""
        folder = self._find(settings) if self._find else Path(settings.model)
        return open_bundle(folder, settings, {name: one.executors for name, one in self._devices.items()})

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
        if self._settings.model_dir is None:
            return {}
        found = (path for path in self._settings.model_dir.iterdir() if not path.name.startswith("."))
        return {path.name: path for path in found if is_bundle(path)}

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
        device = self._devices[where]
        model = assemble(parts, slot.name, names[1:], slot.settings, self._settings.max_request_tokens, device)
        self._retire(slot)
        slot.model, slot.task, slot.reason = model, model.bundle.task, ""
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
        await _end(model)
        del self._going[id(model)], model
        release()
        slot.leaving -= 1
        if slot.model is None:
            metrics.forget_model(slot.name)
        event(logging.INFO, "let go", model=slot.name)

    def _check_open(self) -> None:
        if self.is_leaving:
            raise Unavailable("The server is shutting down.", retry_after=1.0)


async def _end(model: Model) -> None:
    """Waits for what it has to do."""
    for batcher in model.batchers:
        await batcher.close()
    await asyncio.to_thread(model.workers.close)


def _log_failure(load: asyncio.Task[None]) -> None:
    """Whether or not who asked for it still waits."""
    if not load.cancelled() and isinstance(error := load.exception(), LoadFailed):
        event(logging.ERROR, str(error), model=error.name)

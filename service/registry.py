"""Served names → loaded models. The only place that assembles a model from its parts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from service import metrics
from service.batcher import Batcher, Results, Rows
from service.bundle import OUTPUTS, RECOMPILE, TOKEN_OUTPUT, Bundle, Task, read_bundle, verify_files
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
    ModelNotFound,
    StartupError,
    Unavailable,
    WrongTask,
)
from service.late_embedding import LateEmbedder
from service.logs import event
from service.long_input import cut, rules_of
from service.pipeline import Embedder
from service.placement import execution_on, warn_of_two_wheels
from service.reader import Reader
from service.runtime.preflight import Choice, choose, gpu_name
from service.runtime.session import runtime_version
from service.scheduling import Share
from service.scoring import Scorer
from service.settings import ModelSettings, Settings
from service.sparse_embedding import SparseEmbedder, sparsely
from service.tokenizer import Tokenizer, open_tokenizer
from service.tuning import CHOICES, Plan, plan, read_tuning, this_machine
from service.types import EmbedRequest, LongInput
from service.workers import Workers

# Loading takes about a second; a client that is told to wait for one finds the model ready.
_RETRY_WHEN_LOADING = 1.0
_A_TEXT = "a text"
_CHARACTERS_PER_TOKEN = 4  # of English, about


# Task → what such a model is called, and where it answers.
_KINDS: dict[Task, tuple[str, str]] = {
    "embedding": ("an embedding model", "/v1/embeddings and the other routes of embeddings"),
    "sparse": ("a model of sparse embeddings", "/embed_sparse"),
    "tokens": ("a model of vectors of tokens", "/v1/multi-vector and /embed_all"),
    "score": ("a reranker or a classifier", "/v1/rerank, /v2/rerank, /rerank and /predict"),
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


def open_bundle(folder: Path, settings: ModelSettings) -> Parts:
    """Verifies the files, loads tokenizer and graph, and runs one row to warm up. Blocks.

    Raises BundleError, and StartupError for settings that this model cannot be served with.
    """
    bundle = read_bundle(folder)
    with ThreadPoolExecutor(1) as beside:
        verified = beside.submit(verify_files, folder, bundle)
        try:
            return _open(folder, bundle, settings)
        finally:
            verified.result()  # a damaged file is the reason for whatever else failed


def _open(folder: Path, bundle: Bundle, settings: ModelSettings) -> Parts:
    tokenizer = open_tokenizer(folder, bundle)
    _check_settings(settings, bundle, tokenizer)
    placed = choose(settings.device, bundle.target)
    chosen = _plan(folder, settings, placed.device)
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


def _plan(folder: Path, settings: ModelSettings, device: DeviceName) -> Plan:
    """What the user set, what was measured on this machine, what is usual: in this order. Never fails."""
    try:
        tuning = read_tuning(folder, this_machine(runtime_version(), gpu=gpu_name(device)))
    except BundleError as error:
        event(logging.WARNING, f"what was measured is ignored: {error.message}", remedy=error.remedy)
        tuning = None
    on_gpu = device.kind != "cpu"
    return plan(settings.model_dump(include=set(CHOICES)), settings.model_fields_set, tuning, on_gpu=on_gpu)


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
    parts: Parts, name: str, aliases: Sequence[str], settings: ModelSettings, max_tokens: int, device: Device[Any]
) -> Model:
    """Parts → a model that answers, on executors that it shares. `max_tokens` as in Embedder."""
    chosen, encoder = parts.plan, parts.encoder
    cache = _cache(name, settings.cache_bytes)

    share = Share()

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
    """Says where and how batches will be run, and where each figure came from: `executors_from` is set, tuned or
    default."""
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


class Registry:
    """The models of this process, and whether it takes requests. Owned by the event loop."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._names: dict[str, Model] = {}
        self._leaving = False
        self._device: Device[Any] | None = None

    async def load(self, folder: Path, settings: Settings) -> Model:
        """Opens a bundle beside the event loop and serves it. Raises BundleError, StartupError."""
        parts = await asyncio.to_thread(open_bundle, folder, settings)
        name = settings.served_model_name or parts.bundle.model_id.rstrip("/").rpartition("/")[2]
        aliases = [*settings.model_aliases, parts.bundle.model_id]
        if self._device is None:
            self._device = Device(parts.plan.executors)
        model = assemble(parts, name, aliases, settings, settings.max_request_tokens, self._device)
        self._models[name] = model
        _announce(model, parts)
        for known in (name, *aliases):
            self._names.setdefault(known, model)
        return model

    def get(self, name: str | None) -> Model:
        """None is the first model. Raises ModelNotFound; Unavailable while loading."""
        if not self._models:
            raise Unavailable("The model is still loading.", _RETRY_WHEN_LOADING)
        if name is None:
            return next(iter(self._models.values()))
        try:
            return self._names[name]
        except KeyError:
            raise ModelNotFound(name) from None

    def models(self) -> list[Model]:
        """In the order they were loaded."""
        return list(self._models.values())

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests here."""
        return bool(self._models) and not self._leaving

    def leave(self) -> None:
        """From now on readiness fails. What still arrives is answered, until connections are refused."""
        self._leaving = True
        metrics.READY.set(0)

    def stalled_for(self) -> float:
        """Seconds that the slowest running batch has been running."""
        return max((one.stalled_for() for model in self.models() for one in model.batchers), default=0.0)

    async def close(self) -> None:
        """Finishes what is queued, ends the executors."""
        for model in self.models():
            for batcher in model.batchers:
                await batcher.close()
            model.workers.close()
        if self._device is not None:
            self._device.close()

"""`embedserve embed`: files of texts → files of vectors, through the same path as requests."""

from __future__ import annotations

import asyncio
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

import numpy as np
from tqdm import tqdm

from service.api.long_input import chunk_fields
from service.api.wire import as_numbers, to_json
from service.errors import EmbedserveError, InputTooLong, StartupError
from service.model import Model
from service.registry import Registry
from service.settings import Settings
from service.types import EmbedRequest, Input, Vector

_TEXTS_PER_REQUEST = 64
_REQUESTS_IN_FLIGHT = 8
# Limits protect a server from its clients; here is neither.
_NO_LIMITS = {
    **dict.fromkeys(("max_request_tokens", "max_queue_tokens", "max_chunks"), 10**15),
    "max_queue_seconds": math.inf,
}


@dataclass(frozen=True, slots=True)
class BulkJob:
    """`source` and `output` None mean standard input and output; `field` None means plain lines."""

    source: Path | None
    output: Path | None
    field: str | None
    prompt_name: str | None


@dataclass(slots=True)
class Totals:
    """Texts embedded, and those of them that were cut off."""

    texts: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class _Record:
    text: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """`more` are fields for a JSON line: chunks, where the settings ask for them, and whether the text was cut off."""

    vector: Vector
    more: dict[str, object]


def embed_file(settings: Settings, bundle: Path, job: BulkJob) -> Totals:
    """Embeds every line, in order. Raises StartupError naming the line that is wrong."""
    return asyncio.run(_embed(settings, bundle, job))


async def _embed(settings: Settings, bundle: Path, job: BulkJob) -> Totals:
    if settings.return_chunks and job.output is not None and job.output.suffix == ".npy":
        raise StartupError("an array has no room for chunks", "write JSONL, or leave --return-chunks out")
    registry = Registry(settings.model_copy(update=_NO_LIMITS))
    (model,) = await registry.start([bundle])
    with ExitStack() as stack:
        source = _open_source(job.source, stack)
        writer = _Writer(job.output, stack)
        total = _count_lines(job.source)
        bar = stack.enter_context(tqdm(total=total, unit="text", disable=None, file=sys.stderr, smoothing=0.1))
        totals = await _pump(model, job, _records(source, job.field), writer, bar)
        writer.finish()
    await registry.close()
    return totals


async def _pump(model: Model, job: BulkJob, records: Iterator[_Record], writer: _Writer, bar: tqdm[NoReturn]) -> Totals:
    """Keeps several requests queued, so that no executor waits, and writes in the order of the input."""
    waiting: list[tuple[tuple[_Record, ...], asyncio.Task[list[_Embedded]]]] = []
    totals = Totals()

    async def flush(leave: int) -> None:
        while len(waiting) > leave:
            group, task = waiting.pop(0)
            for record, embedded in zip(group, await task, strict=True):
                writer.write(record, embedded)
                totals.truncated += "truncated" in embedded.more
            totals.texts += len(group)
            bar.update(len(group))

    try:
        read = 0
        while group := tuple(islice(records, _TEXTS_PER_REQUEST)):
            waiting.append((group, asyncio.create_task(_vectors(model, group, job.prompt_name, read))))
            read += len(group)
            await flush(_REQUESTS_IN_FLIGHT - 1)
        await flush(0)
    finally:
        for _, task in waiting:
            task.cancel()
    return totals


async def _vectors(model: Model, group: tuple[_Record, ...], prompt_name: str | None, before: int) -> list[_Embedded]:
    try:
        prompt = model.embedder.prompt(prompt_name)
        result = await model.embedder.embed(EmbedRequest([Input(record.text, prompt) for record in group]))
    except InputTooLong as error:
        too_long = before + await _first_too_long(model, [Input(record.text, prompt) for record in group])
        raise StartupError(f"line {too_long}: {error}", "give --long-input chunk, or shorten it") from None
    except EmbedserveError as error:
        raise StartupError(f"after line {before}: {error}", "see embedserve embed --help") from error
    chunks = [as_numbers(one.vectors) for one in result.chunks]
    return [
        _Embedded(vector, chunk_fields(result, i, chunks) | ({"truncated": True} if cut_off else {}))
        for i, (vector, cut_off) in enumerate(zip(result.vectors, result.truncated, strict=True))
    ]


async def _first_too_long(model: Model, inputs: Sequence[Input]) -> int:
    """Its number, counted from 1; one of them is."""
    for number, one in enumerate(inputs, 1):
        try:
            await model.embedder.embed(EmbedRequest([one]))
        except InputTooLong:
            return number
    return len(inputs)


def _open_source(source: Path | None, stack: ExitStack) -> TextIO:
    if source is None:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
        return sys.stdin
    try:
        return stack.enter_context(source.open(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"{source} cannot be read: {error.strerror}", "give a text or JSONL file, or -") from None


def _count_lines(source: Path | None) -> int | None:
    if source is None or not source.is_file():
        return None
    with source.open("rb") as file:
        return sum(1 for _ in file)


def _records(source: TextIO, field: str | None) -> Iterator[_Record]:
    try:
        for number, line in enumerate(source, 1):
            text = line.rstrip("\r\n")
            yield _Record(text, {"text": text}) if field is None else _from_json(text, field, number)
    except UnicodeDecodeError as error:
        raise StartupError(f"the input is not UTF-8: {error}", "convert it: iconv -f LATIN1 -t UTF-8") from None


def _from_json(line: str, field: str, number: int) -> _Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StartupError(f"line {number} is not JSON: {error}", "each line is one JSON object") from None
    text = fields.get(field) if isinstance(fields, dict) else None
    if not isinstance(text, str):
        raise StartupError(f"line {number} has no text in a field named {field!r}", "name it with --field")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise StartupError(f"line {number} has half a surrogate pair, which is no text", "mend what wrote the file")
    return _Record(text, fields)


class _Writer:
    """JSONL with the input's own fields, or one .npy array (texts, dimensions) of float32."""

    def __init__(self, output: Path | None, stack: ExitStack) -> None:
        """Raises StartupError where the output cannot be written, before anything is embedded."""
        self._array: list[Vector] | None = [] if output is not None and output.suffix == ".npy" else None
        try:
            self._file: BinaryIO = sys.stdout.buffer if output is None else stack.enter_context(output.open("wb"))
        except OSError as error:
            raise StartupError(f"{output} cannot be written: {error.strerror}", "mend --output") from None

    def write(self, record: _Record, embedded: _Embedded) -> None:
        """Keeps an array's rows until the end; writes a line at once."""
        if self._array is not None:
            self._array.append(embedded.vector)
            return
        own = {"embedding": embedded.vector, **embedded.more}
        # The input's fields by Python's own writer, which keeps integers of any length as they were.
        fields = json.dumps({name: value for name, value in record.fields.items() if name not in own})
        self._file.write(fields[:-1].encode() + b", " + to_json(own)[1:] + b"\n")

    def finish(self) -> None:
        """Writes what was kept."""
        if self._array is not None:
            np.save(self._file, np.stack(self._array) if self._array else np.empty((0, 0), np.float32))
        self._file.flush()

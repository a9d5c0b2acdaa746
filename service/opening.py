"""A bundle's folder and a model's settings → the parts of a model, ready to run. Blocks, and needs no event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from service.bundle import Bundle, lying_in, read_bundle, read_golden, verify_files
from service.bundle_files import BundleFiles
from service.choices import LongInput
from service.device_name import DeviceName
from service.encoder import Encoder
from service.errors import BundleError, InputTooLong, InvalidInput, StartupError
from service.logs import event
from service.long_input import cut, rules_of
from service.placement import execution_on
from service.runtime.preflight import Choice, choose, gpu_name
from service.runtime.session import runtime_version
from service.self_check import check_itself, in_time
from service.settings import ModelSettings
from service.tokenizer import Tokenizer, open_tokenizer
from service.tuning import CHOICES, Plan, plan, read_tuning, this_machine
from service.types import EmbedRequest

_A_TEXT = "a text"


@dataclass(frozen=True, slots=True)
class Parts:
    """What opening a bundle gives, before there is an event loop to serve on."""

    bundle: Bundle
    files: BundleFiles
    placed: Choice
    plan: Plan
    tokenizer: Tokenizer
    encoder: Encoder
    probe: Sequence[int]  # a row that works if anything does
    tokens_per_second: float  # of one executor, as the golden texts were seen to run


def open_bundle(
    folder: Path,
    settings: ModelSettings,
    executors: Mapping[str, int] = MappingProxyType({}),
    processes: int = 1,
    patience: float | None = None,
) -> Parts:
    """Verifies the files, loads tokenizer and graph, and compares golden texts, which warms up as well. Blocks.

    `executors` says how many the devices have already, `processes` how many share the cores, and `patience` after how
    many seconds golden texts do not come any more. Raises BundleError, CheckHangs, and StartupError for settings that
    this model cannot be served with.
    """
    bundle = _with_prompts(read_bundle(folder), settings)
    files = BundleFiles(folder, bundle)
    with lying_in(folder), ThreadPoolExecutor(1) as beside:
        verified = beside.submit(verify_files, folder, bundle)
        try:
            return _open(folder, bundle, files, settings, executors, processes, patience)
        finally:
            verified.result()  # a damaged file is the reason for whatever else failed


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


def _open(
    folder: Path,
    bundle: Bundle,
    files: BundleFiles,
    settings: ModelSettings,
    executors: Mapping[str, int],
    processes: int,
    patience: float | None,
) -> Parts:
    tokenizer = open_tokenizer(folder, bundle)
    _check_settings(settings, bundle, tokenizer)
    placed = choose(settings.device, bundle.target)
    chosen = _plan(folder, bundle, settings, placed.device, processes, executors.get(str(placed.device)))
    execution = execution_on(
        placed.device,
        folder,
        bundle,
        max_batch_tokens=chosen.max_batch_tokens,
        memory_limit=settings.gpu_memory_limit,
    )
    encoder = Encoder(folder, bundle, execution, chosen.intra_op_threads, chosen.lone_threads)
    probe = [*tokenizer.prefix, *tokenizer.suffix] or [bundle.pad_token_id]
    check = partial(check_itself, folder, bundle, read_golden(folder), tokenizer, encoder)
    speed = check() if patience is None else in_time(check, patience)
    return Parts(bundle, files, placed, chosen, tokenizer, encoder, probe, speed)


def _plan(
    folder: Path,
    bundle: Bundle,
    settings: ModelSettings,
    device: DeviceName,
    processes: int,
    executors: int | None = None,
) -> Plan:
    """What the user set, what was measured on this machine, what is usual: in this order. Never fails.

    `executors` that the device has already are as good as set.
    """
    try:
        tuning = read_tuning(folder, this_machine(runtime_version(), gpu=gpu_name(device)))
    except BundleError as error:
        event(logging.WARNING, f"what was measured is ignored: {error.message}", remedy=error.remedy)
        tuning = None
    decide = partial(plan, tuning=tuning, on_gpu=device.kind != "cpu", packed=bundle.packed, processes=processes)
    values, told = settings.model_dump(include=set(CHOICES)), settings.model_fields_set
    if executors is None:
        return decide(values, told)
    values, told = values | {"executors": executors}, told | {"executors"}
    found = decide(values, told)
    return replace(found, sources={**found.sources, "executors": "device"})


def device_executors(folder: Path, settings: ModelSettings, processes: int = 1) -> tuple[str, int]:
    """The device that a model is for, and how many executors it would have there. Raises BundleError, StartupError."""
    bundle = read_bundle(folder)
    device = choose(settings.device, bundle.target).device
    return str(device), _plan(folder, bundle, settings, device, processes).executors


def _check_settings(settings: ModelSettings, bundle: Bundle, tokenizer: Tokenizer) -> None:
    """What a request would be refused for, whoever sends it."""
    plain = EmbedRequest([], long_input=LongInput.CHUNK)
    try:
        rules = rules_of(plain.wishes, settings, bundle, tokenizer.prefix, tokenizer.suffix)
        for prompt in ("", *bundle.prompts.values()):
            cut(tokenizer.encode([_A_TEXT], [prompt], 0)[0], _A_TEXT, rules, room=rules.max_chunks)
    except (InvalidInput, InputTooLong) as error:
        remedy = "mend --chunk-max-tokens, --chunk-overlap, --max-input-tokens, --late-chunking or the prompts"
        raise StartupError(f"the settings do not fit the model {bundle.model_id}: {error}", remedy) from None

"""`embedserve check --device`: whether a bundle gives the right vectors on a device, and how fast it runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.verify import CheckReport, check, runnable
from service.bundle import MODEL_ONNX, OUTPUTS, Bundle, read_bundle
from service.cores import usable_cores
from service.device_name import DeviceName, parse
from service.encoder import Encoder, padded_feeds
from service.errors import StartupError
from service.placement import execution_on
from service.runtime.preflight import choose, gpu_name, require
from service.runtime.providers import Execution
from service.runtime.session import Session, runtime_version
from service.settings import ModelSettings
from service.tokenizer import open_tokenizer
from service.tuner import Batch, batches, mixes, rate
from service.tuning import CHOICES, Plan, plan, this_machine

_SECONDS = 2.0  # of each figure


@dataclass(frozen=True, slots=True)
class Speed:
    """Real tokens per second of one mix of texts: `bare` is ONNX Runtime's session in one thread."""

    mix: str
    batches: int
    bare: float
    served: float


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """What `run` found; `device` with the hardware's own name."""

    report: CheckReport
    device: str
    plan: Plan
    speeds: tuple[Speed, ...]


def run(folder: Path, wish: str, seconds: float | None = None) -> DeviceCheck:
    """Raises StartupError for a device that cannot be had, and what `check` raises. Any bundle can be looked at on a
    CPU; on a GPU only what is compiled for it."""
    bundle = read_bundle(folder)
    device = _device(wish, bundle)
    settings = ModelSettings()
    chosen = plan(
        settings.model_dump(include=set(CHOICES)), (), None, on_gpu=device.kind != "cpu", packed=bundle.packed
    )
    execution = execution_on(device, folder, bundle, max_batch_tokens=chosen.max_batch_tokens)
    report = check(folder, execution=execution)
    name = gpu_name(device) or this_machine(runtime_version()).cpu
    return DeviceCheck(
        report,
        f"{device}, {name}, {usable_cores()} usable cores, ONNX Runtime {runtime_version()}",
        chosen,
        tuple(_speeds(folder, bundle, execution, chosen, _SECONDS if seconds is None else seconds)),
    )


def render(found: DeviceCheck) -> str:
    """As lines for a person."""
    chosen = found.plan
    return "\n".join(
        [
            found.device,
            f"tokens per second with {chosen.executors} executors and batches of {chosen.max_batch_tokens} tokens:",
            "  texts    batches  bare session     served   ratio",
            *(
                f"  {one.mix:7s}  {one.batches:7d}  {one.bare:12,.0f}  {one.served:9,.0f}  {one.served / one.bare:6.2f}"
                for one in found.speeds
            ),
        ]
    )


def _device(wish: str, bundle: Bundle) -> DeviceName:
    try:
        device = parse(wish)
    except ValueError as error:
        raise StartupError(f"--device: {error}", "name one of those") from None
    if device is not None and device.kind == "cpu":
        return device
    if device is not None:
        require(device)  # first, because whoever asks wants to know whether it is there at all
    return choose(wish, bundle.target).device


def _speeds(folder: Path, bundle: Bundle, execution: Execution, chosen: Plan, seconds: float) -> Iterator[Speed]:
    output = [OUTPUTS[bundle.task][0]]
    vocabulary = open_tokenizer(folder, bundle).vocab_size
    with runnable(folder, bundle, execution) as other:
        encoder = Encoder(folder, bundle, execution, chosen.intra_op_threads, graph=other)
        bare = Session(other or folder / MODEL_ONNX, replace(execution, bound_to=None), chosen.intra_op_threads)
        for mix, rows in mixes(bundle, vocabulary).items():
            packed = list(batches(rows, chosen.max_batch_tokens, chosen.costs))
            yield Speed(
                mix,
                len(packed),
                bare=rate(_of_arrays(bare, output, bundle, packed), packed, 1, seconds),
                served=rate(encoder.run, packed, chosen.executors, seconds),
            )


def _of_arrays(session: Session, output: list[str], bundle: Bundle, packed: Sequence[Batch]) -> Callable[[Batch], None]:
    """Runs a batch whose arrays were made before: nothing is timed but the session."""
    feeds = {id(batch): padded_feeds(batch, bundle.inputs, bundle.pad_token_id) for batch in packed}

    def run_batch(batch: Batch) -> None:
        session.run(output, feeds[id(batch)])

    return run_batch

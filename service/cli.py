"""serve | compile | tune | check | embed | key | health: the only door from the server to the compiler."""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import service
from service.bundle import PoolingMode, is_bundle, read_bundle
from service.device_name import AUTO, DEVICES, Target
from service.errors import BundleError, SourceError, StartupError, TargetUnsupported
from service.key_file import UNLIMITED, line_of, make_key, parse_line
from service.precision import USUAL_PRECISION, Precision
from service.rate_limits import Limits
from service.settings import (
    DEFAULT_MODEL,
    ENV_PREFIX,
    ServedModel,
    Settings,
    config_folder,
    default_text,
    load_settings,
    server_first,
)

_SERVE_HELP = f"""\
Serve embeddings over HTTP, in OpenAI's and Google Vertex AI's own words.

MODEL is a bundle made by `embedserve compile`, a checkpoint folder, a file of word vectors, either folder in a bucket
(gs://BUCKET/FOLDER), a name of the built-in catalogue (default: {DEFAULT_MODEL}) or a Hugging Face id. What is not
compiled yet is compiled first, once.
"""
_SERVE_EXAMPLES = """\
examples:
  embedserve serve
  embedserve serve ./my-checkpoint --port 9000 --served-model-name my-model
  EMBEDSERVE_API_KEYS=secret1,secret2 embedserve serve
  embedserve serve --config embedserve.toml        (keys are the flags' names: max_batch_tokens = 1024)

Every flag is also an environment variable: --max-batch-tokens is EMBEDSERVE_MAX_BATCH_TOKENS.
Flags win over the environment, the environment over the file.
"""
_COMPILE_HELP = """\
Turn a checkpoint (what authors publish) into a bundle (what the server runs), once.

Pooling, dense layers and normalisation become part of the graph; its vectors are compared with golden ones
before the bundle is put in place. Needs torch and transformers only for architectures that are not built in
(--route export).
"""
_ROUTE_HELP = (
    "how the graph is made: from the weights, from an ONNX file of the authors', or by torch, which pip install "
    "'embedserve[export]' brings (default: the first of them that can be)"
)
_TUNE_HELP = """\
Measure which executors, threads and budget of tokens are fastest for a model on this machine, in about a minute.

The figures are kept in the bundle's folder, one file for each kind of machine (CPU, usable cores, version of ONNX
Runtime). A server that runs the bundle on such a machine uses them for what it is not told: flags, variables and the
settings file win. Nothing else should be running meanwhile.
"""
_PRECISION_HELP = (
    "fp32; int8 for a CPU: more than twice as fast, vectors of cosine 0.999 to fp32's; fp16 for a GPU "
    "(default: fp32, and fp16 for cuda and tensorrt)"
)
_CHECK_HELP = """\
Check a bundle: every file against its hash, and its golden texts against the vectors recorded for them.

With --device, vectors are computed on that device, alone and in batches, and throughput is measured: of the server's
own way to run batches, and of ONNX Runtime's bare session with the same ones.

Exits with 0 when all is well, with 1 and the reason when it is not.
"""
_EMBED_HELP = """\
Turn lines of text, or JSONL, into vectors, without a server.

FILE is read as plain lines, or as JSONL where --field names the text (the default for *.jsonl is "text"); "-" is
standard input. The output is JSONL with the input's fields and "embedding", or one float32 array for *.npy.
With --return-chunks each line also has "chunks": the places and vectors of the parts that a long text was cut into.
With --long-input truncate the lines of texts that were cut off say "truncated": true.
"""
_EMBED_EXAMPLES = """\
examples:
  embedserve embed sentences.txt --output vectors.npy
  embedserve embed documents.jsonl --field body > vectors.jsonl
  embedserve embed books.jsonl --return-chunks --chunk-max-tokens 128 --chunk-overlap 16 > chunks.jsonl
  echo "Hello, world" | embedserve embed -
"""
_KEY_HELP = """\
Make a random key. Its line for a key file goes to standard output, and the key itself, which is shown this once, to
standard error: the file holds its hash alone. Several keys of one NAME share their limits.
"""
_KEY_EXAMPLES = """\
examples:
  embedserve key --name search >> keys
  embedserve key --name trial --requests-per-minute 60 --tokens-per-minute 100000 >> keys
  embedserve key --hash < a-key-of-mine >> keys          (of a random key only: a password could be guessed)
  embedserve serve --api-key-file keys
"""
_LONGEST = 3600.0  # seconds that `health` may wait
_HEALTH_HELP = """\
Ask the server that these settings describe, on this machine, whether it accepts requests (/readyz), and exit with 0 if
it does and with 1 if not: for the HEALTHCHECK of containers, and whatever else runs a command.

It reads the settings that the server reads. --admin-port is asked where it is set, and HTTPS where certificates are.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 with a reason and a remedy on stderr, 2 for a wrong command line."""
    parser = command_line()
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    options.arguments = given
    try:
        result: int = options.run(options)
        return result
    except StartupError as error:
        print(f"embedserve: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `embedserve embed … | head`: whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a disk, a folder or a file of the user's that will not do
        print(f"embedserve: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if settings.processes > 1 and options.member is None:
        from service.supervisor import supervise

        return supervise(settings, options.arguments)
    gc.disable()  # until the server is ready: what is made until then stays, and looking through it takes a tenth
    served = [one for one in settings.served() if one.load_at_start]
    bundles = [_bundle(one, settings) for one in served]
    # FastAPI imports OpenTelemetry, which raises ValueError for names that are not installed. Here it reads no header.
    os.environ.pop("OTEL_PROPAGATORS", None)
    # Only now, so that `--help` and mistakes do not wait for onnxruntime.
    from service.member import Member
    from service.server import serve

    find = partial(_find, settings)
    member = None if options.member is None else Member(options.member)
    try:
        serve(settings, bundles, find, member)
    except BundleError as error:
        folder = error.folder
        if folder is None or folder in (Path(one.model) for one in served):
            raise
        _say(f"the cached bundle is damaged and will be compiled anew: {error.message}")
        shutil.rmtree(folder, ignore_errors=True)
        if member is not None:
            member.starts_over()
        serve(settings, [_bundle(one, settings) for one in served], find, member)
    return 0


def _compile(options: argparse.Namespace) -> int:
    if options.source is None:
        return _compile_file(options)
    if options.config is not None:
        options.misused("name a SOURCE, or a file of models with --config, not both")
    from models.compile import compile_checkpoint

    target: Target = options.target or "cpu"
    cache_dir = options.cache_dir or load_settings().cache_dir
    folder = compile_checkpoint(
        _local(options.source, cache_dir),
        output=options.output,
        cache_dir=cache_dir,
        precision=options.precision or USUAL_PRECISION[target],
        target=target,
        pooling=options.pooling,
        route=options.route,
        format=options.format,
        keep_padding=options.keep_padding,
        say=_say,
    )
    if options.tune:
        _tune_bundle(folder, quick=False)
    print(folder)
    return 0


_OF_ONE_SOURCE = ("output", "target", "pooling", "route", "format", "keep_padding")


def _compile_file(options: argparse.Namespace) -> int:
    """All models of the settings file, those that are loaded later included."""
    if options.config is None:
        options.misused("name a SOURCE, or a file of models with --config")
    if given := [
        f"--{name.replace('_', '-')}" for name in _OF_ONE_SOURCE if getattr(options, name) not in (None, False)
    ]:
        reason = f"{', '.join(given)} with --config: that is for one SOURCE"
        raise StartupError(
            reason, "leave it out; for what the file cannot say, compile a SOURCE and name its bundle there"
        )
    settings = _settings(options)
    for one in settings.served():
        folder = _bundle(one, settings)
        if options.tune:
            _tune_bundle(folder, quick=False)
        print(folder, flush=True)
    return 0


def _tune(options: argparse.Namespace) -> int:
    settings = _settings(options)
    for one in settings.served():
        if settings.models:
            _say(f"measuring {one.name or one.model}")
        folder = _bundle(one, settings)
        _tune_bundle(folder, quick=options.quick, device=one.device, memory=one.gpu_memory_limit)
    return 0


def _tune_bundle(folder: Path, *, quick: bool, device: str = AUTO, memory: int | None = None) -> None:
    """The table goes to stderr, so that `compile --tune` still prints nothing but the folder."""
    from service.tuner import QUICK, USUAL, flags, measure, render
    from service.tuning import write_tuning

    tuning = measure(folder, QUICK if quick else USUAL, device, memory)
    print(render(tuning), file=sys.stderr)
    try:
        _say(f"kept in {write_tuning(folder, tuning)}")
    except OSError as error:
        reason = f"{folder} cannot be written: {error.strerror}; nothing was kept"
        raise StartupError(reason, f"give the server what was chosen: {flags(tuning)}") from error


def _check(options: argparse.Namespace) -> int:
    from models.verify import check, render

    if options.bundle is not None and options.config is not None:
        options.misused("name a BUNDLE, or a file of models with --config, not both")
    if options.bundle is not None:
        bundles = [options.bundle]
    elif options.config is not None:
        settings = _settings(options)
        bundles = [_find(settings, one) for one in settings.served()]
    else:
        options.misused("name a BUNDLE, or a file of models with --config")
    if options.device is not None:
        return max(_check_on(bundle, options.device) for bundle in bundles)
    reports = [check(bundle) for bundle in bundles]
    print("\n\n".join(render(report) for report in reports))
    return 0 if all(report.passed for report in reports) else 1


def _check_on(bundle: Path, device: str) -> int:
    from models import device_check
    from models.verify import render

    found = device_check.run(bundle, device)
    print(render(found.report))
    print(device_check.render(found))
    return 0 if found.report.passed else 1


def _embed(options: argparse.Namespace) -> int:
    settings = _settings(options)
    source = None if str(options.source) == "-" else options.source
    if options.output is not None and options.output.suffix not in (".jsonl", ".npy"):
        raise StartupError(f"--output {options.output} is neither *.jsonl nor *.npy", "the name says what is written")
    field = options.field or ("text" if source is not None and source.suffix == ".jsonl" else None)
    if settings.models:
        raise StartupError("the settings file has several models", "name another file, and MODEL with --model")
    bundle = _bundle(settings.served()[0], settings)
    from service.bulk import BulkJob, embed_file

    totals = embed_file(settings, bundle, BulkJob(source, options.output, field, options.prompt_name))
    _say(f"{totals.texts} texts embedded" + (f", {totals.truncated} of them cut off" if totals.truncated else ""))
    return 0


def _key(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("name", "requests_per_minute", "tokens_per_minute")}
    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    key = sys.stdin.readline().strip() if options.hash else make_key()
    line = line_of(key, *words)
    parse_line(f"{key} {' '.join(words)}", Limits(), "the key")
    print(line)
    if not options.hash:
        print(key, file=sys.stderr)
    return 0


def _health(options: argparse.Namespace) -> int:
    from service.probe import ask

    answer = ask(_settings(options), "/livez" if options.live else "/readyz", options.timeout)
    print(answer.word)
    return 0 if answer.is_well else 1


def _bundle(wanted: ServedModel, settings: Settings) -> Path:
    """The folder to serve: a bundle as it is, anything else compiled, or found in the cache."""
    from models.compile import compile_checkpoint

    wanted = wanted.model_copy(update={"model": _local(wanted.model, settings.cache_dir)})
    if folder := _compiled(wanted, settings):
        return folder
    *better, last = _targets(wanted)
    for precision, target in better:
        try:
            return compile_checkpoint(
                wanted.model, cache_dir=settings.cache_dir, precision=precision, target=target, say=_say
            )
        except TargetUnsupported as error:
            _say(f"not for {target}: {error.message}")
    precision, target = last
    return compile_checkpoint(wanted.model, cache_dir=settings.cache_dir, precision=precision, target=target, say=_say)


def _local(model: str, cache_dir: Path) -> str:
    """A folder of a bucket as one of the cache; anything else as it is. Raises SourceError."""
    if not model.startswith("gs://"):
        return model
    from models.bucket import bring

    return str(bring(model, cache_dir, _say))


def _find(settings: Settings, wanted: ServedModel) -> Path:
    """The same, where it is compiled already: no server compiles beside what it serves. Raises StartupError."""
    if folder := _compiled(wanted, settings):
        return folder
    reason = f"{wanted.model} is not compiled yet, or has been changed since"
    if not os.path.exists(wanted.model):
        reason = f"{wanted.model} is no path here, and the model of that name is not compiled yet"
    raise StartupError(reason, "compile it with the server's settings first: embedserve compile --config FILE")


def _compiled(wanted: ServedModel, settings: Settings) -> Path | None:
    from models.compile import find_cached

    folder = Path(wanted.model)
    if is_bundle(folder):
        return _as_wished(folder, wanted.precision)
    try:
        for precision, target in _targets(wanted):
            if found := find_cached(wanted.model, cache_dir=settings.cache_dir, precision=precision, target=target):
                return found
    except SourceError as error:
        if settings.models and (beside := config_folder()) is not None:
            raise SourceError(f"{error.message}; looked in {beside} and {Path.cwd()}", error.remedy) from error
        raise
    return None


def _targets(wanted: ServedModel) -> list[tuple[Precision, Target]]:
    """What it may be compiled for, the best first."""
    from service.runtime.preflight import targets_for

    targets = targets_for(wanted.device, precision=wanted.precision)
    return [(wanted.precision or USUAL_PRECISION[target], target) for target in targets]


def _as_wished(bundle: Path, precision: Precision | None) -> Path:
    """A bundle cannot be made another. Raises StartupError, BundleError."""
    if precision not in (None, found := read_bundle(bundle).precision):
        raise StartupError(f"{bundle} is {found}, not {precision}", "leave --precision out, or name its checkpoint")
    return bundle


def _say(line: str) -> None:
    print(f"embedserve: {line}", file=sys.stderr, flush=True)


def _settings(options: argparse.Namespace) -> Settings:
    if options.config is not None:
        os.environ[f"{ENV_PREFIX}CONFIG"] = str(options.config)
    given = vars(options)
    return load_settings({name: given[name] for name in Settings.model_fields if name in given})


def command_line() -> argparse.ArgumentParser:
    """Every command with its flags."""
    parser = argparse.ArgumentParser(
        prog="embedserve",
        description="Embeddings from ONNX encoder models, over HTTP.",
        epilog="Begin with: embedserve serve      Details: embedserve COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"embedserve {service.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_compile(commands)
    _add_tune(commands)
    _add_check(commands)
    _add_embed(commands)
    _add_key(commands)
    _add_health(commands)
    return parser


def _add(commands: Any, name: str, run: Any, summary: str, text: str, examples: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=text,
        epilog=examples,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, misused=parser.error)
    return parser


def _add_serve(commands: Any) -> None:
    parser = _add(commands, "serve", _serve, "serve embeddings over HTTP", _SERVE_HELP, _SERVE_EXAMPLES)
    parser.add_argument("model", metavar="MODEL", nargs="?", default=None, help="what to serve")
    parser.add_argument("--member", type=_membership, default=None, help=argparse.SUPPRESS)  # the supervisor's own
    _add_settings(parser, [name for name in server_first() if name != "model"])


def _add_compile(commands: Any) -> None:
    parser = _add(commands, "compile", _compile, "turn a checkpoint into a bundle", _COMPILE_HELP)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="a checkpoint folder, a file of word vectors, a catalogue name or a Hugging Face id",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to put the bundle (default: the cache)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file: all of its [[models]] into the cache")
    parser.add_argument("--precision", choices=get_args(Precision), help=_PRECISION_HELP)
    parser.add_argument("--target", choices=get_args(Target), help="what runs it (default: cpu)")
    poolings = [*get_args(PoolingMode), "splade"]
    parser.add_argument("--pooling", choices=poolings, help="for a checkpoint that does not say")
    parser.add_argument("--route", choices=["native", "onnx", "export"], help=_ROUTE_HELP)
    formats = ["word2vec-text", "word2vec-binary", "glove", "fasttext"]
    parser.add_argument("--format", choices=formats, help="of a file of word vectors whose content leaves it open")
    parser.add_argument("--keep-padding", action="store_true", help="for CUDA: layers compute padding as well")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="where checkpoints and bundles are kept")
    parser.add_argument("--tune", action="store_true", help="measure it on this machine as well: see embedserve tune")


def _add_tune(commands: Any) -> None:
    parser = _add(commands, "tune", _tune, "measure which executors and budgets are fastest here", _TUNE_HELP)
    parser.add_argument("model", metavar="MODEL", nargs="?", default=None, help="a bundle, or what `serve` takes")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, and fewer budgets")
    _add_settings(parser, ["precision", "device", "gpu_memory_limit", "cache_dir"])


def _add_check(commands: Any) -> None:
    parser = _add(commands, "check", _check, "check a bundle's files and vectors", _CHECK_HELP)
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", type=Path, help="a folder with a bundle.json")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file: all of its [[models]]")
    parser.add_argument("--device", metavar="DEVICE", help=f"run it there and measure it as well: {DEVICES}")


def _add_embed(commands: Any) -> None:
    parser = _add(commands, "embed", _embed, "turn lines or JSONL into vectors", _EMBED_HELP, _EMBED_EXAMPLES)
    parser.add_argument("source", metavar="FILE", type=Path, help='texts, one a line; "-" for standard input')
    parser.add_argument("--output", type=Path, metavar="FILE", help="*.jsonl or *.npy (default: JSONL on stdout)")
    parser.add_argument("--field", metavar="NAME", help="the field of each JSON line that holds the text")
    parser.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts")
    _add_settings(
        parser,
        [
            *("model", "precision", "long_input", "truncation_side"),
            *("chunk_max_tokens", "chunk_overlap", "chunk_boundary"),
            *("chunk_aggregation", "return_chunks", "late_chunking"),
            *("device", "gpu_memory_limit", "executors", "intra_op_threads", "max_batch_tokens", "cache_dir"),
        ],
    )


def _add_key(commands: Any) -> None:
    parser = _add(commands, "key", _key, "make a key and its line for a key file", _KEY_HELP, _KEY_EXAMPLES)
    parser.add_argument("--name", metavar="NAME", help="shown in logs and metrics; letters, digits and ._-")
    parser.add_argument("--requests-per-minute", metavar="N", help=f"its own limit; {UNLIMITED} for none")
    parser.add_argument("--tokens-per-minute", metavar="N", help="likewise")
    parser.add_argument("--hash", action="store_true", help="of a key on standard input, instead of a new one")


def _add_health(commands: Any) -> None:
    parser = _add(commands, "health", _health, "ask a running server how it is", _HEALTH_HELP)
    parser.add_argument("--live", action="store_true", help="whether the process should go on living (/livez) instead")
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=3.0, help="for an answer (default: 3)")
    _add_settings(
        parser, ["host", "port", "admin_port", "admin_host", "tls_certificate", "tls_private_key", "tls_client_ca"]
    )


def _membership(text: str) -> Any:
    from service.channel import Membership

    return Membership.read(text)


def _seconds(text: str) -> float:
    """Raises ValueError, which argparse tells."""
    if not 0 < (seconds := float(text)) <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {_LONGEST:g}")
    return seconds


def _add_settings(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Flags straight from the settings: values stay text, as pydantic reads and checks them."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with settings")
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, default=None, **_flag(name))


def _flag(name: str) -> dict[str, Any]:
    """How argparse should show and read a setting; --strict and --no-strict need no value."""
    field = Settings.model_fields[name]
    default = "" if default_text(name) == "–" else f" (default: {default_text(name)})"
    text = f"{field.description}{default}".replace("%", "%%")
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    literals = [one for one in (field.annotation, *get_args(field.annotation)) if get_origin(one) is Literal]
    choices = get_args(literals[0]) if literals else None
    if isinstance(field.annotation, type) and issubclass(field.annotation, StrEnum):
        choices = tuple(field.annotation)
    return {"metavar": "{" + ",".join(choices) + "}" if choices else "VALUE", "help": text}


if __name__ == "__main__":
    sys.exit(main())

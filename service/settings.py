"""One settings object: flags > environment > Vertex's AIP_* variables > TOML file > defaults.

Every field is a flag (`--max-batch-tokens`), a variable (`EMBEDSERVE_MAX_BATCH_TOKENS`) and a TOML key
(`max_batch_tokens`). `reference_table()` is the README's table, so the two cannot drift apart.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from service.choices import Aggregation, Boundary, LongInput, TokenIds, TruncationSide
from service.cores import usable_cores
from service.device_name import AUTO, parse
from service.errors import StartupError
from service.model_paths import from_file
from service.precision import Precision
from service.toml_lines import line_of

ENV_PREFIX = "EMBEDSERVE_"
DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PORT = 8080


def _split(value: object) -> object:
    """Lists come as `a,b,c` from flags and variables, as arrays from TOML."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _table(value: object) -> object:
    """Tables come as JSON from flags and variables."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _split_keys(value: object) -> object:
    """Set but empty is a mistake in a deployment, not a wish to serve everybody."""
    found = _split(value)
    if isinstance(value, str) and not found:
        raise ValueError("it is set, but holds no key; leave it out to serve without keys")
    return found


def _without_service_links(found: Mapping[str, Any]) -> dict[str, Any]:
    """In every pod beside a Service named embedserve, or embedserve-admin, Kubernetes sets EMBEDSERVE_PORT=tcp://… or
    EMBEDSERVE_ADMIN_PORT=tcp://…; those are not ours, and must hide nothing that the file says."""
    return {
        name: value
        for name, value in found.items()
        if name not in ("port", "admin_port") or not str(value).startswith("tcp://")
    }


_ROUTE = r"/[^{}?#]*"
_ORIGIN = r"\*|[a-z][a-z0-9+.-]*://[^/\s?#@A-Z*]+"
_DEVICE = r"auto|cpu|(cuda|tensorrt)(:[0-9]{1,3})?"


def _text(pattern: str) -> dict[str, Any]:
    """JSON Schema of texts that match all of it."""
    return {"type": "string", "pattern": f"^({pattern})$"}


def _absolute(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(_ROUTE, value):
        raise ValueError("a path begins with / and holds no braces, ? or #")
    return value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """As browsers write them; they are compared letter by letter."""
    for value in values:
        if not re.fullmatch(_ORIGIN, value):
            raise ValueError("an origin is * or like https://example.org, without a path, in small letters")
    if "*" in values and len(values) > 1:
        raise ValueError("* stands for all origins, and so alone")
    return values


def _device(value: str) -> str:
    parse(value)
    return value


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/embedserve`, or `~/.cache/embedserve`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedserve"


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[Names, AfterValidator(_origins), WithJsonSchema({"type": "array", "items": _text(_ORIGIN)})]
Texts = Annotated[dict[str, str], NoDecode, BeforeValidator(_table)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_keys)]
Route = Annotated[str | None, AfterValidator(_absolute), WithJsonSchema(_text(_ROUTE))]
DeviceText = Annotated[str, AfterValidator(_device), WithJsonSchema(_text(_DEVICE))]


class ModelSettings(BaseModel):
    """What one served model may be told; a server of several models holds several of these."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: object, about: ValidationInfo) -> object:
        """pydantic takes `true` for 1, which as a limit nobody means."""
        if isinstance(value, bool) and cls.model_fields[about.field_name or ""].annotation is not bool:
            raise ValueError("it is true or false, which says nothing here")
        return value

    long_input: LongInput = Field(
        LongInput.CHUNK,
        description="An input longer than the model reads is cut into windows and averaged (chunk), cut off and "
        "reported (truncate), or refused with 400 (reject).",
    )
    truncation_side: TruncationSide = Field(
        TruncationSide.RIGHT, description="Which end of an over-long input is cut off where it is truncated."
    )
    chunk_max_tokens: int | None = Field(
        None,
        ge=1,
        description="Length of a chunk, special tokens and prompt counted; without it, what the model reads.",
    )
    chunk_overlap: int = Field(0, ge=0, description="Tokens that a chunk may share with the one before it.")
    chunk_boundary: Boundary = Field(
        Boundary.PARAGRAPH,
        description="The best place that a cut looks for: paragraph, sentence or word ends, or any token.",
    )
    chunk_aggregation: Aggregation = Field(
        Aggregation.MEAN,
        description="How the vectors of chunks become one: mean (weighted by tokens), mean_unweighted, max, first.",
    )
    return_chunks: bool = Field(False, description="Add every chunk's vector and place to replies with room for them.")
    late_chunking: bool = Field(
        False,
        description="Read inputs whole where the model can, and pool their chunks afterwards (mean-pooled models).",
    )
    max_input_tokens: int | None = Field(
        None, ge=1, description="Tokens that one input may hold; without it, as many as a request."
    )
    max_chunks: int = Field(4096, ge=1, description="Chunks that the long inputs of one request may make.")
    token_ids: TokenIds = Field(
        TokenIds.CL100K_BASE,
        description="What integers in place of a text mean: OpenAI's cl100k_base vocabulary, the model's own "
        "(native), or an error (reject).",
    )
    allow_dimensions: Literal["model", "any"] = Field(
        "model",
        description="Which `dimensions` a request may ask for: those the model was trained for, or any up to its own.",
    )
    strict: bool = Field(False, description="Refuse empty texts with 400 instead of embedding them.")
    device: DeviceText = Field(
        AUTO,
        description="cpu, cuda, cuda:N, tensorrt or tensorrt:N; auto: what a bundle is compiled for, and CUDA for what "
        "is compiled first where it can be had. What cannot be had is an error, never another device. See docs/GPU.md.",
    )
    gpu_memory_limit: int | None = Field(
        None,
        ge=1,
        description="Bytes of a GPU's memory for weights and batches; what NVIDIA's libraries take comes on top.",
    )
    executors: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=256,
        description="Batches run at the same time, each on a thread of its own (on a GPU 2); where those are of long "
        "requests, one more for short ones. Several processes share the cores. Of this and the next two, what is not "
        "set is what `embedserve tune` found on this machine, if it was run.",
    )
    intra_op_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="ONNX Runtime threads inside one batch. On a CPU, more executors are faster than more of these.",
    )
    max_batch_tokens: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Tokens of a batch, padding counted (one input always fits); on a GPU 16,384.",
    )
    max_queue_tokens: int = Field(
        500_000,
        ge=1,
        le=1_000_000_000,
        description="Tokens that may wait; beyond that a request gets 429 with Retry-After. Those of much longer "
        "requests do not count against a short one.",
    )
    max_queue_seconds: float = Field(
        20.0,
        gt=0,
        le=86_400,
        description="Seconds that a request may be expected to take with what waits before it (8 times what it takes "
        "alone where that is more, and half of the time it has left where that is less); beyond that it gets 429 with "
        "Retry-After, and until nothing was refused for a while less than a second of work may wait.",
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of memory for vectors of texts that were embedded before; 0 keeps none. Worth it where the "
        "same texts come again: queries, headers of documents, jobs that start over.",
    )
    prompts: Texts = Field(
        {},
        description="Prompts by name, beside the model's own or in place of them: a table in the file, a JSON object "
        "elsewhere.",
    )
    default_prompt_name: str | None = Field(
        None, description="The prompt of requests that name none; without it, what the model says."
    )


class ServedModel(ModelSettings):
    """One table of `[[models]]`. What it leaves out is what the file, or another source, says for all models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, description="What to serve: as MODEL; a path is one from the file's folder.")
    name: str | None = Field(None, min_length=1, description="Its public name; as --served-model-name.")
    aliases: Names = Field((), description="More public names; as --model-aliases.")
    precision: Precision | None = Field(None, description="As --precision.")
    weight: float = Field(
        1.0, gt=0, le=1000, allow_inf_nan=False, description="Its part of a busy device, beside those of the others."
    )
    load_at_start: bool = Field(True, description="If false, it is loaded when it is asked for at /v2/repository.")


class Settings(ModelSettings, BaseSettings):
    """Everything the process can be told."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        # Compose files and charts write an unset value as an empty one. Keys are the exception: see load_settings.
        env_ignore_empty=True,
    )

    model: str = Field(
        DEFAULT_MODEL,
        description="A bundle, a checkpoint folder, one of either at gs://, a catalogue name or a Hugging Face id "
        "(AIP_STORAGE_URI).",
    )
    precision: Precision | None = Field(
        None,
        description="fp32; or int8 on a CPU: more than twice the speed, and vectors of cosine 0.999 to those of fp32; "
        "or fp16 on a GPU. Without it, what a bundle has, and for what is compiled first fp32, on a GPU fp16.",
    )
    served_model_name: str | None = Field(
        None, description="The model's public name; without it, the last part of what it was compiled from."
    )
    model_aliases: Names = Field((), description="More public names for it, separated by commas.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="A second port, and the only one for /metrics and /v2/repository; /livez and /readyz are on both.",
    )
    admin_host: str | None = Field(None, min_length=1, description="Address of that port; without it, the first one's.")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the ports, each a whole server with a queue, a cache and a GPU's memory of "
        "its own: for what one of them cannot keep busy, as a small model on a GPU.",
    )
    docs: bool = Field(True, description="Serve the API's own pages, /docs and /openapi.json.")
    tls_certificate: Path | None = Field(
        None, description="Certificate in PEM, those between it and the root behind it: HTTPS instead of HTTP."
    )
    tls_private_key: Path | None = Field(None, description="Its key in PEM. Both are read again when they change.")
    tls_client_ca: Path | None = Field(
        None, description="Certificates in PEM: clients must present one that these have signed (mutual TLS)."
    )
    api_keys: Secrets = Field((), description="Keys that clients must present, separated by commas; none: open.")
    api_key_file: Path | None = Field(
        None,
        description="File with one key a line, or its hash (# starts a comment); README.md has its form.",
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        le=10**15,
        description="Requests that each key may make in a minute, if its line in the key file says nothing else; "
        "without keys, all clients together.",
    )
    tokens_per_minute: int | None = Field(
        None, ge=1, le=10**15, description="Tokens that each key may send in a minute, likewise."
    )
    admin_keys: Secrets = Field(
        (),
        description="Keys of those who may load and unload models at run time (/v2/repository), separated by commas; "
        "without any, there are no such routes.",
    )
    admin_key_file: Path | None = Field(None, description="File with one such key a line, as api_key_file's.")
    model_dir: Path | None = Field(
        None, description="Folder of bundles that may be loaded at run time, beside the models of the file."
    )
    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may call this server from browsers, separated by commas, or *; none: no "
        "page of another origin may read a reply.",
    )
    max_inputs: int = Field(2048, ge=1, description="Inputs that one request may hold.")
    max_instances: int = Field(250, ge=1, description="Instances that one Vertex request may hold.")
    max_request_tokens: int = Field(300_000, ge=1, description="Tokens that one request may hold.")
    max_body_bytes: int = Field(4 * 2**20, ge=1, description="Bytes of a request body that are read.")
    max_buffered_bytes: int = Field(
        128 * 2**20,
        ge=1,
        description="Bytes of request bodies that are held at once, of all connections together; beyond that a request "
        "gets 429 with Retry-After. The process takes a few times as much.",
    )
    max_connections: int = Field(
        8192,
        ge=1,
        le=1_000_000,
        description="Connections at once; beyond that a request gets 503 with Retry-After, and only health and metrics "
        "are answered.",
    )
    request_timeout: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds a request may take, queueing included; then 504 and its work is dropped.",
    )
    client_timeout: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="Seconds that a client may take to send a head; and to send a body or take a reply below 10 kB a "
        "second. Then its connection is closed.",
    )
    drain_grace: float = Field(
        0.0, ge=0, le=86_400, description="Seconds between SIGTERM (readiness fails) and refusing connections."
    )
    drain_timeout: float = Field(
        30.0, ge=0, le=86_400, description="Seconds that requests in flight get to finish after that."
    )
    stall_timeout: float = Field(
        120.0,
        gt=0,
        le=86_400,
        description="Seconds one batch may run, or all models may fail on everything, before /livez says so. After as "
        "many a silent one of several processes is replaced, and a load given up whose golden texts still run.",
    )
    predict_route: Route = Field(None, description="Extra path for Vertex's :predict (AIP_PREDICT_ROUTE).")
    health_route: Route = Field(None, description="Extra path for readiness (AIP_HEALTH_ROUTE).")
    cache_dir: Path = Field(
        default_factory=default_cache_dir, description="Where checkpoints and compiled bundles are kept."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people.")
    access_log: bool = Field(True, description="Log one line for every request (never its inputs or keys).")
    models: tuple[ServedModel, ...] = Field(
        (), description="Several models in one process: tables `[[models]]` of the file, in place of MODEL."
    )

    def served(self) -> tuple[ServedModel, ...]:
        """Every model of this process, with what is said for all of them where its own table says nothing."""
        if self.models:
            return tuple(
                self.for_model(one.model, {n: getattr(one, n) for n in one.model_fields_set}) for one in self.models
            )
        return (self.for_model(self.model, {"name": self.served_model_name, "aliases": self.model_aliases}),)

    def for_model(self, model: str, own: Mapping[str, Any]) -> ServedModel:
        """What is said for all models, and over that its own. What nobody set counts as not set."""
        common = {name for name in ServedModel.model_fields if name in Settings.model_fields}
        told = {name: getattr(self, name) for name in common & self.model_fields_set}
        values = {**told, **own, "model": model}
        return ServedModel.model_construct(set(values), **values)  # valid already

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        variables = InitSettingsSource(settings_cls, _without_service_links(env_settings()))
        vertex = InitSettingsSource(settings_cls, _vertex_container())
        if (folder := config_folder()) is None:
            return init_settings, variables, vertex
        told = TomlConfigSettingsSource(settings_cls, Path(os.environ[f"{ENV_PREFIX}CONFIG"])).toml_data
        return init_settings, variables, vertex, InitSettingsSource(settings_cls, from_file(told, folder))


def config_folder() -> Path | None:
    """That of the settings file, if there is one."""
    config = os.environ.get(f"{ENV_PREFIX}CONFIG")
    return Path(config).absolute().parent if config else None


def _vertex_container() -> dict[str, Any]:
    """Vertex AI's custom-container contract: it says where to listen, and on which model, by AIP_* variables."""
    found = {
        "model": os.environ.get("AIP_STORAGE_URI"),
        "port": os.environ.get("AIP_HTTP_PORT"),
        "predict_route": os.environ.get("AIP_PREDICT_ROUTE"),
        "health_route": os.environ.get("AIP_HEALTH_ROUTE"),
    }
    values = {name: value for name, value in found.items() if value}
    return {"host": "0.0.0.0", **values} if "port" in values else values


def load_settings(flags: dict[str, Any] | None = None) -> Settings:
    """Flags (None values left out) over everything else. Raises StartupError naming the setting to mend."""
    for name in ("API_KEYS", "API_KEY_FILE"):
        if os.environ.get(f"{ENV_PREFIX}{name}") == "":
            message = f"the variable {ENV_PREFIX}{name} is set, but empty: that would serve everybody"
            raise StartupError(message, "give it a value, or unset it to serve without keys")
    config = os.environ.get(f"{ENV_PREFIX}CONFIG")
    if config and not Path(config).is_file():
        raise StartupError(f"the settings file {config} does not exist", f"mend --config or {ENV_PREFIX}CONFIG")
    try:
        settings = Settings(**{name: value for name, value in (flags or {}).items() if value is not None})
    except ValidationError as error:
        raise StartupError(*_explain(error, config)) from None  # the original would print secrets
    except SettingsError as error:  # of a variable
        remedy = f"""lists and tables are written as JSON there: {ENV_PREFIX}MODELS='[{{"model": "MODEL"}}]'"""
        raise StartupError(f"a variable is not JSON: {error}", remedy) from None
    except ValueError as error:  # TOML syntax
        raise StartupError(f"the settings file {config} is not TOML: {error}", "mend the file") from None
    _check_models(settings, config)
    return settings


def _check_models(settings: Settings, config: str | None) -> None:
    """What one table cannot say, or several cannot together. Raises StartupError."""
    if not settings.models:
        if "models" in settings.model_fields_set:
            raise StartupError(f"{config}: models is empty", "add a table [[models]], or leave it out and name a MODEL")
        return
    for name in ("model", "served_model_name", "model_aliases"):
        if name in settings.model_fields_set:
            flag = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
            remedy = f"leave {flag} ({ENV_PREFIX}{name.upper()}) out, or give --config a file without [[models]]"
            raise StartupError(f"{flag} is set, and {config} says what to serve by [[models]]", remedy)
    owners: dict[str, int] = {}
    for number, one in enumerate(settings.models):
        where = place(config, number, "model")
        for key, public in (("name", one.name), *(("aliases", alias) for alias in one.aliases)):
            if public is not None and owners.setdefault(public, number) != number:
                reason = f"{place(config, number, key)}: the name {public!r} is that of another model as well"
                raise StartupError(reason, "give each its own name and aliases")
        if "executors" in one.model_fields_set:
            reason = f"{place(config, number, 'executors')}: executors are shared by all models"
            raise StartupError(reason, "set executors above the first [[models]]; weight says what a model has of them")
        if not one.load_at_start and one.name is None:
            raise StartupError(f"{where}: a model that is loaded later needs a name", 'add name = "…" to its table')
        if not one.load_at_start and one.model.startswith("gs://"):
            reason = f"{where}: a model in a bucket is read at the start alone"
            raise StartupError(reason, "leave load_at_start out, or name a folder that it was brought to")
    if not any(one.load_at_start for one in settings.models):
        raise StartupError(f"{config}: no model is loaded at the start", "leave load_at_start out of one of the tables")


def place(config: str | None, table: int, key: str) -> str:
    """Where in the file, for people."""
    text = Path(config).read_text("utf-8", "replace") if config else ""
    line = line_of(text, "models", table, key)
    return f"{config}, line {line}" if line else f"{config or f'{ENV_PREFIX}MODELS'}, [[models]] number {table + 1}"


def unknown_variables() -> list[str]:
    """Variables that look like settings and are none: a misspelling is worth a warning, not a refusal."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{ENV_PREFIX}CONFIG"}
    from_kubernetes = re.compile(rf"{ENV_PREFIX}(ADMIN_)?(SERVICE_|PORT_\d)")
    return sorted(
        name
        for name in os.environ
        if name.startswith(ENV_PREFIX) and name not in known and not from_kubernetes.match(name)
    )


def _explain(error: ValidationError, config: str | None) -> tuple[str, str]:
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0])
    if name == "models" and len(first["loc"]) > 2:
        return _explain_table(config, int(first["loc"][1]), str(first["loc"][2]), first["type"], first["msg"])
    if first["type"] == "extra_forbidden":
        text = Path(config).read_text("utf-8", "replace") if config else ""
        line = line_of(text, None, 0, name)
        where = f"{config}, line {line}: " if line else ""
        return f"{where}there is no setting named {name!r}", "embedserve serve --help lists them all"
    if name == "models":
        return f"{config}: models are tables of their own, each below a line [[models]]", "write [[models]] above each"
    return (
        f"the setting {name} is not valid: {first['msg']}",
        f"mend --{name.replace('_', '-')}, {ENV_PREFIX}{name.upper()} or its line in the settings file",
    )


def _explain_table(config: str | None, table: int, key: str, kind: str, message: str) -> tuple[str, str]:
    where = place(config, table, key)
    if kind == "extra_forbidden":
        known = ", ".join(ServedModel.model_fields)
        return f"{where}: a model has no setting named {key!r}", f"mend that line; there are: {known}"
    if kind == "missing":
        return f"{where}: the table has no {key!r}", f'add {key} = "…" to it'
    return f"{where}: {key} is not valid: {message}", "mend that line"


def default_text(name: str) -> str:
    """A setting's default, for people."""
    field = Settings.model_fields[name]
    computed = {"executors": "usable cores", "cache_dir": "~/.cache/embedserve"}
    if name in computed:
        return computed[name]
    value = field.default
    if value in (None, (), {}):
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def server_first() -> Iterator[str]:
    """Field names in the order people look for them: the server's own, then the model's."""
    own = [name for name in Settings.model_fields if name not in ModelSettings.model_fields and name != "models"]
    yield from own
    yield from ModelSettings.model_fields


def reference_table() -> str:
    """The README's settings table, in Markdown."""
    rows = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    for name in server_first():
        meaning = (Settings.model_fields[name].description or "").replace("|", "\\|")
        flag = "`MODEL`" if name == "model" else f"`--{name.replace('_', '-')}`"
        rows.append(f"| {flag} | `{ENV_PREFIX}{name.upper()}` | {default_text(name)} | {meaning} |")
    return "\n".join(rows) + "\n"


TABLE_BEGINS, TABLE_ENDS = "<!-- settings begin -->\n", "<!-- settings end -->"


def replace_table(document: str) -> str:
    """A Markdown document with the table between its two marks written anew."""
    before, _, rest = document.partition(TABLE_BEGINS)
    _, _, after = rest.partition(TABLE_ENDS)
    return f"{before}{TABLE_BEGINS}{reference_table()}{TABLE_ENDS}{after}"


if __name__ == "__main__":  # python -m service.settings README.md
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(replace_table(path.read_text("utf-8")), "utf-8")

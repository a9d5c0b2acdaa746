"""OpenTelemetry's own variables, as far as a wrong one has to be refused here. Pure: no library is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from service.errors import StartupError

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOLS = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
_HEADERS = "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"
_SPOKEN = "http/protobuf"
ENDPOINTS = (_OF_TRACES, _ENDPOINT)
_MOST = 2**31 - 1  # what a thread can wait for, in milliseconds, and by far more than any of these is good for
_SAMPLERS = ("always_on", "always_off", "traceidratio")


class Sending(NamedTuple):
    """Where spans go, for people; and how: by the specification's defaults where nothing is said."""

    endpoint: str
    sampler: str  # one of OpenTelemetry's names
    share: float  # of all traces, for traceidratio
    most_waiting: int  # spans
    most_at_once: int  # spans in one message
    delay: float  # seconds that a span may wait for others


def sending(variables: Mapping[str, str]) -> Sending | None:
    """None where no endpoint is named, or tracing is switched off. Raises StartupError."""
    told = {name: value.strip() for name, value in variables.items() if value.strip()}
    endpoint = told.get(_OF_TRACES) or told.get(_ENDPOINT)
    exporter = told.get("OTEL_TRACES_EXPORTER", "otlp").lower()
    if not endpoint or exporter == "none" or told.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporter != "otlp":
        raise StartupError(
            f"OTEL_TRACES_EXPORTER is {exporter!r}; traces go out by otlp alone", "set it to otlp or none"
        )
    place = _place(_OF_TRACES if _OF_TRACES in told else _ENDPOINT, endpoint)
    _check_headers(told)
    _check_protocol(told)
    waiting = _whole(told, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    at_once = min(waiting, _whole(told, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))
    return Sending(place, *_sampler(told), waiting, at_once, _whole(told, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000)


def _place(name: str, value: str) -> str:
    """The endpoint without a name and a password in it. No query: what cannot be sent is logged with the library's own
    words, and they have it."""
    shown = re.sub(r"(//|^)[^/]*@", r"\1", value.partition("?")[0])
    try:
        parts = urlsplit(value)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an address in brackets, or a port that is none
        is_one = False
    if not is_one or re.search(r"\s", value):
        raise StartupError(f"{name} is {shown!r}, which is no URL", "write it like http://collector:4318")
    if "?" in value:
        raise StartupError(f"{name} has a query behind {shown!r}", f"put keys into {_HEADERS[1]}")
    return shown


def _check_headers(told: Mapping[str, str]) -> None:
    """The library says what it cannot send, and that may be a key."""
    for name in _HEADERS:
        if not unquote(told.get(name, "")).isprintable():
            remedy = "leave it out: a key from a file often ends with a line break (%0A)"
            raise StartupError(f"{name} has a character that no header can have", remedy)


def _check_protocol(told: Mapping[str, str]) -> None:
    name = next((one for one in _PROTOCOLS if one in told), None)
    if name is not None and told[name].lower() != _SPOKEN:
        remedy = f"set it to {_SPOKEN}, and the endpoint to the collector's port for that, usually 4318"
        raise StartupError(f"{name} is {told[name]!r}; spans are sent by {_SPOKEN} alone", remedy)


def _sampler(told: Mapping[str, str]) -> tuple[str, float]:
    name = told.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    if name.removeprefix("parentbased_") not in _SAMPLERS:
        known = ", ".join([*_SAMPLERS, *(f"parentbased_{one}" for one in _SAMPLERS)])
        raise StartupError(f"OTEL_TRACES_SAMPLER is {name!r}, which is unknown", f"set it to one of {known}")
    if not name.endswith("traceidratio"):
        return name, 0.0 if name.endswith("off") else 1.0
    text = told.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        if 0 <= (share := float(text)) <= 1:
            return name, share
    except ValueError:
        pass
    raise StartupError(f"OTEL_TRACES_SAMPLER_ARG is {text!r}", "set it to a share of all traces, from 0 to 1")


def _whole(told: Mapping[str, str], name: str, default: int) -> int:
    value = told.get(name, str(default))
    if not value.isdecimal() or len(value) > len(str(_MOST)) or not 1 <= int(value) <= _MOST:
        raise StartupError(f"{name} is {value[:40]!r}", f"set it to a whole number from 1 to {_MOST}")
    return int(value)

"""OpenTelemetry's variables: what they switch on, and what is refused with a remedy."""

from __future__ import annotations

import pytest

from service.errors import StartupError
from service.telemetry.variables import Sending, sending

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_TRACES_SAMPLER": "always_on"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_off(variables: dict[str, str]) -> None:
    assert sending(variables) is None


def test_on_with_the_specifications_defaults() -> None:
    assert sending(ENDPOINT) == Sending("http://collector:4318", "parentbased_always_on", 1.0, 2048, 512, 5.0)


def test_what_is_said_of_traces_wins() -> None:
    found = sending(
        ENDPOINT
        | {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example/v1/traces",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
        }
    )
    assert found == Sending("https://traces.example/v1/traces", "traceidratio", 0.25, 100, 100, 0.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
        ("OTEL_BSP_SCHEDULE_DELAY", "99999999999999"),
        ("OTEL_BSP_SCHEDULE_DELAY", "9" * 5000),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "a lot"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
    ],
)
def test_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(StartupError, match=name) as refused:
        sending({**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", name: value})
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret%0A"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,authorization=secret\rx"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://me:secret@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "me:secret@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/?api-key=secret"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://col lector:4318"),
    ],
)
def test_a_refusal_tells_no_secret(name: str, value: str) -> None:
    with pytest.raises(StartupError, match=name) as refused:
        sending({**ENDPOINT, name: value})
    assert "secret" not in str(refused.value)


def test_what_is_told_of_the_endpoint_holds_no_password() -> None:
    found = sending({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:secret@collector:4318/path"})
    assert found is not None
    assert found.endpoint == "https://collector:4318/path"

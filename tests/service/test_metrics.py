"""In which words metrics are told."""

from __future__ import annotations

import pytest

from service import metrics

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1"
    ";q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "told"),
    [
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/vnd.google.protobuf;q=0.9, application/openmetrics-text;q=0.5", "application/openmetrics-text"),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.9", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.8", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; Q=0.2, text/plain", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0; q=0.000, */*", "text/plain; version=0.0.4"),
        ("text/html, */*", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
    ],
)
def test_who_asks_gets_what_they_like_best(accept: str, told: str) -> None:
    body, content_type = metrics.render(accept)
    assert content_type.startswith(told)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in told)

"""In which words metrics are told."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

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


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_of_several_processes_each_family_stands_once_and_every_sample_is_kept(accept: str) -> None:
    metrics.of_requests("m # HELP\nme", "/v1/embeddings", 200)[0].inc(2)
    try:
        texts = [metrics.render(accept, number)[0] for number in range(3)]
    finally:
        metrics.forget_model("m # HELP\nme")
    whole = metrics.merged(texts)
    lines, single = whole.splitlines(), texts[0].splitlines()
    assert [line for line in lines if line.startswith(b"#")] == [line for line in single if line.startswith(b"#")]
    assert len(lines) - len(single) == 2 * sum(not line.startswith(b"#") for line in single)
    assert whole.endswith(b"\n")
    parse = openmetrics_families if accept else text_string_to_metric_families
    families = {family.name: family for family in parse(whole.decode())}
    asked = [one for one in families["embedserve_requests"].samples if one.labels["model"] == "m # HELP\nme"]
    assert [(one.labels["process"], one.value) for one in asked] == [("0", 2.0), ("1", 2.0), ("2", 2.0)]


def test_of_one_process_alone_nothing_has_its_number() -> None:
    assert b"process=" not in metrics.render("")[0]
    text = metrics.render("", 0)[0]
    assert metrics.merged([text]) == text


@pytest.mark.parametrize("lines", range(1, 4))
def test_of_a_process_that_died_in_the_midst_of_its_metrics_no_family_stands_twice(lines: int) -> None:
    whole = b'# HELP a_total A\n# TYPE a_total counter\na_total{process="0"} 1.0\n'
    cut_off = b"".join(whole.replace(b'"0"', b'"1"').splitlines(keepends=True)[:lines])
    [family] = text_string_to_metric_families(metrics.merged([whole, cut_off]).decode())
    assert len(family.samples) == (2 if lines == 3 else 1)
    assert metrics.merged([whole, cut_off]).count(b"# HELP") == 1

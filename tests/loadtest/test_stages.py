"""Which stage a sample of py-spy's belongs to."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import pytest

import loadtest.server
from loadtest import stages
from loadtest.command import MeasurementError
from loadtest.stages import shares, stage_of, svg
from tests.e2e.process import Server

ROOT = "main (service/cli.py:12);Runner.run (asyncio/runners.py:118)"
HANDLER = f"{ROOT};Endpoint.__call__ (service/api/http.py:180);create_embeddings (service/api/openai.py:114)"


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (ROOT, "event loop, Python itself"),
        (f"{HANDLER};Embedder.embed (service/pipeline.py:70)", "rules, chunks, result"),
        (f"{HANDLER};Embedder.embed (service/pipeline.py:70);Words.encode (service/words.py:3)", "text → ids"),
        (f"{HANDLER};Call.parse (service/api/http.py:90);x (pydantic/main.py:8)", "JSON body → fields"),
        (f"{HANDLER};_body (service/api/openai.py:120);as_base64 (service/api/wire.py:2)", "vectors → JSON"),
        (f"{HANDLER};check (service/api/auth.py:9)", "route, request id, key, headers"),
        (f"{ROOT};Endpoint.__call__ (service/api/http.py:1);Exchange.reply (service/exchange.py:9)",
         "write the reply to the socket"),
        (f"{ROOT};LimitedProtocol.data_received (service/protocol.py:9)", "read and parse HTTP"),
        ("_bootstrap (threading.py:1);Executors._work (service/executors.py:8);run (service/encoder.py:3);"
         "full (numpy/_core/numeric.py:3)", "batch → runtime (null encoder)"),
    ],
)  # fmt: skip
def test_the_innermost_frame_that_belongs_to_a_stage_decides(stack: str, stage: str) -> None:
    assert stage_of(stack) == stage


def test_shares_add_up_and_come_largest_first() -> None:
    lines = [f"{ROOT} 1", f"{ROOT};data_received (service/protocol.py:1) 3"]
    assert list(shares(lines, 4).items()) == [("read and parse HTTP", 0.75), ("event loop, Python itself", 0.25)]


def test_looks_that_saw_nothing_are_time_outside_of_python() -> None:
    found = shares([f"{ROOT} 1", f"{ROOT};data_received (service/protocol.py:1) 3"], 10)
    assert next(iter(found.items())) == ("outside Python: system calls, runtime", 0.6)
    assert sum(found.values()) == pytest.approx(1)


def test_looks_begin_with_the_load(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = loadtest.server.Server("127.0.0.1", server.port, server.process.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stages._until_busy, ours)
        server.post("/v1/embeddings", {"input": "a text that begins a load"})
        while not waiting.done():  # where it looked for the first time only now
            server.post("/v1/embeddings", {"input": "another"})
        waiting.result()
    monkeypatch.setattr(stages, "_BEGIN_LIMIT", 0.1)
    with pytest.raises(MeasurementError, match="did not begin"):
        stages._until_busy(ours)


def test_without_py_spy_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert stages.main(["--model", "/no/such/model"]) == 1
    assert capsys.readouterr().err.startswith("stages: py-spy is not installed")


def test_no_samples_are_no_figures() -> None:
    with pytest.raises(MeasurementError, match="no samples"):
        shares([], 100)


def test_the_picture_is_xml_with_a_bar_a_stage() -> None:
    root = ET.fromstring(svg({"a & b": 0.6, "c": 0.4}, 100))
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a & b" in words
    assert "60 µs · 60%" in words
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 1 + 2

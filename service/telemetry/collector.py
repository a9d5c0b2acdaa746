"""What a collector answers: read within bounds, and kept in words for people."""

from __future__ import annotations

import time
from typing import Any

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

_LONGEST = 1 << 16  # bytes of an answer, of which usually there are none
_WORDS = 200  # characters of a collector's own that are kept


class Collector(requests.Session):
    """For the exporter, on its thread. A redirect, which it would take for success, and an answer that does not end are
    errors: HTTPError."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = True  # or a whole answer would be read before anybody looks at it
        self.hooks["response"].append(self._look)
        self.said = ""  # the last answer, or why there was none
        self.rejected = 0  # spans of the last message that was taken

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        """As any session's."""
        try:
            return super().send(request, **more)
        except requests.RequestException as error:
            self.said = str(error)
            raise

    def _look(self, response: requests.Response, **more: Any) -> None:
        self.said, self.rejected = f"status {response.status_code} ({response.reason})", 0
        if 300 <= response.status_code < 400:
            raise requests.HTTPError(f"status {response.status_code}: a redirect is not followed")
        if response.ok:
            self._read(_body(response, more["timeout"]))
        else:
            response.close()

    def _read(self, body: bytes) -> None:
        try:
            partial = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:  # by its status it was taken
            return
        self.rejected = max(partial.rejected_spans, 0)
        self.said = f"{self.rejected} spans were rejected: {partial.error_message[:_WORDS]}"


def _body(response: requests.Response, seconds: float) -> bytes:
    found, end = bytearray(), time.monotonic() + seconds
    for one in response.iter_content(1):  # whatever is there, as a read of more waits for all of it
        found += one
        if len(found) > _LONGEST or time.monotonic() > end:
            response.close()
            raise requests.HTTPError("the answer does not end")
    return bytes(found)

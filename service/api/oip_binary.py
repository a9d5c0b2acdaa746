"""The Open Inference Protocol's binary tensor data extension: JSON, then the tensors' bytes, in one body. Pure.

The header Inference-Header-Content-Length says where the JSON ends. Numbers are little-endian and row-major; an
element of a BYTES tensor is its length in four bytes, then itself.
Source: the extension's documents at KServe and at Triton Inference Server (extension_binary_data).
"""

from __future__ import annotations

import struct

from service.errors import InvalidInput
from service.types import Matrix

HEADER = "inference-header-content-length"
CONTENT_TYPE = "application/octet-stream"
_LENGTH = struct.Struct("<I")
_MOST_DIGITS = 20  # more than any body's length has; int() of an endless number would take its time


def split_body(body: bytes, json_length: bytes | None) -> tuple[bytes, bytes]:
    """(JSON, tensors); `json_length` is the header's value, None without one. Raises InvalidInput."""
    if json_length is None:
        return body, b""
    if not json_length.isdigit() or len(json_length) > _MOST_DIGITS or int(json_length) > len(body):
        raise InvalidInput("Inference-Header-Content-Length is not a length within the body.")
    end = int(json_length)
    return body[:end], body[end:]


def decode_texts(tensor: bytes, count: int) -> list[str]:
    """The `count` elements of a BYTES tensor. Raises InvalidInput where they do not fill it exactly."""
    texts = []
    at = 0
    for i in range(count):
        start = at + _LENGTH.size
        if start > len(tensor):
            raise InvalidInput(f"The binary tensor ends before the length of element {i} of {count}.", "inputs")
        at = start + _LENGTH.unpack_from(tensor, at)[0]
        if at > len(tensor):
            raise InvalidInput(f"Element {i} of the binary tensor reaches beyond its end.", "inputs")
        texts.append(_decode(tensor[start:at], i))
    if at != len(tensor):
        raise InvalidInput(f"The binary tensor goes on after the {count} elements of its shape.", "inputs")
    return texts


def _decode(element: bytes, i: int) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"Element {i} of the binary tensor is not UTF-8.", "inputs") from None


def encode_fp32(vectors: Matrix) -> bytes:
    """An FP32 tensor."""
    return vectors.astype("<f4", copy=False).tobytes()

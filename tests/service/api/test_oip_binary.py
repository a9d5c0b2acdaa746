"""The binary tensors of the Open Inference Protocol, against an encoder of the test's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.oip_binary import decode_texts, encode_fp32, split_body
from service.errors import InvalidInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # lone surrogates have no UTF-8


def encoded(texts: list[str]) -> bytes:
    elements = [text.encode("utf-8") for text in texts]
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


@given(st.lists(TEXT, max_size=8))
def test_texts_survive(texts: list[str]) -> None:
    assert decode_texts(encoded(texts), len(texts)) == texts


@given(st.lists(TEXT, min_size=1, max_size=8), st.data())
def test_every_truncation_is_refused(texts: list[str], data: st.DataObject) -> None:
    tensor = encoded(texts)
    cut = data.draw(st.integers(0, len(tensor) - 1))
    with pytest.raises(InvalidInput):
        decode_texts(tensor[:cut], len(texts))


@given(st.lists(TEXT, max_size=8), st.binary(min_size=1, max_size=8))
def test_anything_after_the_last_element_is_refused(texts: list[str], more: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_texts(encoded(texts) + more, len(texts))


@given(st.binary(max_size=64), st.integers(0, 8))
def test_any_bytes_are_texts_or_refused(tensor: bytes, count: int) -> None:
    try:
        texts = decode_texts(tensor, count)
    except InvalidInput:
        return
    assert encoded(texts) == tensor
    assert len(texts) == count


@pytest.mark.parametrize(
    "tensor",
    [
        b"",
        b"\x01",
        b"\x01\0\0",
        b"\x02\0\0\0a",
        b"\xff\xff\xff\xffa",  # the largest length, and -1 to who reads it with a sign
        b"\0\0\0\x01a",  # big-endian
        b"\x01\0\0\0\xff",
        b"\x03\0\0\0\xed\xa0\x80",  # a lone surrogate
        b"\x02\0\0\0\xc0\x80",  # an overlong NUL
    ],
)
def test_what_is_no_element(tensor: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_texts(tensor, 1)
    assert "0" in refused.value.message


@given(st.binary(max_size=64), st.integers(0, 80))
def test_bodies_are_cut_where_the_header_says(body: bytes, length: int) -> None:
    header = str(length).encode()
    if length > len(body):
        with pytest.raises(InvalidInput):
            split_body(body, header)
        return
    assert split_body(body, header) == (body[:length], body[length:])


@pytest.mark.parametrize("header", [b"", b"-1", b"+1", b" 1", b"1.0", b"0x1", b"\xb2", b"9" * 5000, b"0" * 5000])
def test_what_is_no_length(header: bytes) -> None:
    with pytest.raises(InvalidInput):
        split_body(b"{}", header)


def test_without_the_header_all_is_json() -> None:
    assert split_body(b"{}\xff", None) == (b"{}\xff", b"")


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_vectors_are_little_endian_and_row_major(dtype: str) -> None:
    columns = np.asarray(np.arange(6, dtype=dtype).reshape(3, 2).T)  # not contiguous
    assert np.frombuffer(encode_fp32(columns), "<f4").tolist() == [0, 2, 4, 1, 3, 5]

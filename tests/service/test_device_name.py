"""What devices are called."""

from __future__ import annotations

import pytest

from service.device_name import DeviceName, parse


@pytest.mark.parametrize("text", ["cpu", "cuda:0", "cuda:7", "tensorrt:1"])
def test_a_device_is_written_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


def test_without_a_number_it_is_the_first() -> None:
    assert parse("cuda") == DeviceName("cuda", 0)
    assert parse("tensorrt") == DeviceName("tensorrt", 0)


def test_auto_is_no_device() -> None:
    assert parse("auto") is None


@pytest.mark.parametrize("text", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "cuda:0,1", "cuda:9999"])
def test_what_is_no_device_is_refused_with_all_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="is not cpu, cuda, cuda:N, tensorrt, tensorrt:N or auto"):
        parse(text)

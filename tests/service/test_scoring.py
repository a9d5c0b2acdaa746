"""What of a pair is kept, and what becomes of logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from service.scoring import activate, longest_first

LENGTHS = st.integers(0, 40)


@given(first=LENGTHS, second=LENGTHS, room=st.integers(2, 40))
def test_what_is_kept_of_a_pair_is_what_the_library_keeps(first: int, second: int, room: int) -> None:
    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(room, strategy="longest_first")
    found: Encoding = tokenizer.encode("a " * first, "b " * second)
    kept = (first, second) if first + second <= room else longest_first(first, second, room)
    assert kept == (found.ids.count(0), found.ids.count(1))


def test_activations_are_exact_and_overflow_on_neither_side() -> None:
    logits = np.array([[0.0, 1.0], [-1000.0, 1000.0], [-40.0, 40.0]], np.float32)
    assert activate(logits, "identity") is logits
    with np.errstate(all="raise", under="ignore"):
        sigmoid, softmax = activate(logits, "sigmoid"), activate(logits, "softmax")
    assert sigmoid[0].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1.0))])
    assert sigmoid[1].tolist() == [0, 1]
    assert sigmoid[2, 0] == pytest.approx(np.exp(-40.0), rel=1e-6)
    assert softmax[0].tolist() == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)])
    assert softmax.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert sigmoid.dtype == softmax.dtype == np.float32

"""A small real tokenizer for tests that need no model."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from service.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "query", ":", "a", "##b"]


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.enable_truncation(5)
    made.enable_padding(length=7)
    target = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(target))
    return target


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: Path) -> Tokenizer:
    return Tokenizer(tokenizer_json)

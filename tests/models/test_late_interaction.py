"""Models of vectors of tokens: what their files say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.verify import check
from service.bundle import Expansion, LateInteraction, read_bundle
from service.errors import CheckpointError
from service.tokenizer import Tokenizer
from tests.models import late
from tests.models.conftest import Compile
from tests.models.tiny import change_json, write_json


@pytest.mark.parametrize("kind", late.KINDS)
def test_three_kinds_of_files_say_the_same(tmp_path: Path, compiled: Compile, kind: str) -> None:
    folder = compiled(late.write(kind, tmp_path / "tiny"))
    bundle = read_bundle(folder)
    assert (bundle.task, bundle.dimensions, bundle.max_seq_length) == ("tokens", late.WIDTH, late.DOCUMENT_LENGTH)
    assert bundle.normalized
    assert bundle.late_interaction == LateInteraction(
        query_length=late.QUERY_LENGTH,
        document_length=late.DOCUMENT_LENGTH,
        expansion=Expansion(token_id=late.MASK, length=late.QUERY_LENGTH, attended=kind == "pylate"),
        skipped_tokens=tuple(sorted(late.SKIPPED)),
        skipped_in=("document",),
    )
    tokenizer = Tokenizer(folder / "tokenizer.json")
    marker = late.VOCABULARY[late.MARKED[kind][0]]
    assert list(tokenizer.encode(["river"], [bundle.prompts["query"]], 9)[0].ids) == [marker, late.VOCABULARY["river"]]
    assert check(folder).passed


def test_queries_without_expansion(tmp_path: Path, compiled: Compile) -> None:
    for kind, change in (("pylate", {"do_query_expansion": False}), ("multi_vector", {"query_expansion": None})):
        found = read_bundle(compiled(late.write(kind, tmp_path / kind, **change))).late_interaction
        assert found is not None
        assert (found.expansion, found.query_length) == (None, late.QUERY_LENGTH)


def test_a_floor_leaves_long_queries_whole(tmp_path: Path, compiled: Compile) -> None:
    floor = {"strategy": "min", "length": 6, "attend": True, "token": "river"}
    source = late.write("multi_vector", tmp_path / "tiny", query_expansion=floor, query_length=14)
    found = read_bundle(compiled(source)).late_interaction
    assert found is not None
    assert found.query_length == 14
    assert found.expansion == Expansion(token_id=late.VOCABULARY["river"], length=6, attended=True)


def test_lengths_end_where_positions_do(tmp_path: Path, compiled: Compile) -> None:
    found = read_bundle(compiled(late.write("pylate", tmp_path / "tiny", document_length=300))).late_interaction
    assert found is not None
    assert found.document_length == 40


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("pylate", {"query_prefix": "[Z] "}, r"'\[Z\] ' is no token of the vocabulary"),
        ("pylate", {"query_length": 100}, "length 100 is more than the 40"),
        ("pylate", {"prompts": {"query": "ask: "}}, "beside PyLate's prefixes"),
        ("pylate", {"prompts": True}, "prompts: Input should be a valid dictionary"),
        ("pylate", {"truncate_dim": 4}, "truncate_dim = 4"),
        ("pylate", {"query_length": "long"}, "query_length"),
        ("multi_vector", {"query_expansion": {"strategy": "max", "length": 3}}, "strategy"),
        ("multi_vector", {"query_expansion": {"strategy": "min", "length": 3, "token": "zz"}}, "'zz' is not in"),
        ("multi_vector", {"query_expansion": {"strategy": "min", "length": 3, "by": 4}}, "by = 4 is not understood"),
        ("multi_vector", {"pieces": 3}, "pieces = 3 is not understood"),
        ("colbert", {"dim": 13}, r"tensor linear.weight has shape \(12, 32\)"),
        ("colbert", {"dim": None}, "dim"),
        ("colbert", {"query_token_id": "[unused9]"}, "no token of the vocabulary"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, compiled: Compile, kind: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        compiled(late.write(kind, tmp_path / "tiny", **change))


def test_a_mask_by_token_ids_and_other_modules_are_refused(tmp_path: Path, compiled: Compile) -> None:
    source = late.write("multi_vector", tmp_path / "tiny")
    change_json(source / "2_MultiVectorMask" / "config.json", keep_only_token_ids=[3])
    with pytest.raises(CheckpointError, match="keep_only"):
        compiled(source)
    pooling = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
    write_json(source / "modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}])
    with pytest.raises(CheckpointError, match="0 modules MultiVectorMask"):
        compiled(source)
    source = late.write("pylate", tmp_path / "other")
    kinds = ["sentence_transformers.models.Transformer", pooling]
    write_json(source / "modules.json", [{"path": "", "type": kind} for kind in kinds])
    with pytest.raises(CheckpointError, match="Transformer, HierarchicalTokenPooling"):
        compiled(source)


def test_without_its_metadata_colbert_is_refused_and_pooling_never_fits(tmp_path: Path, compiled: Compile) -> None:
    source = late.write("colbert", tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="not pooled"):
        compiled(source, pooling="mean")
    (source / "artifact.metadata").unlink()
    with pytest.raises(CheckpointError, match=r"no artifact\.metadata"):
        compiled(source)

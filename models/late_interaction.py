"""Late interaction (ColBERT, Khattab and Zaharia, arXiv:2004.12832): a vector for each token, compared by MaxSim.

Three kinds of folders say the same in different files:

    sentence-transformers' MultiVectorEncoder   sentence_bert_config.json, a module MultiVectorMask, prompts
    PyLate's ColBERT                            config_sentence_transformers.json; masking and normalisation unnamed
    ColBERT's own (architecture HF_ColBERT)     artifact.metadata; the projection lies among the encoder's tensors
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from models.architecture import architecture_of
from models.checkpoint import Checkpoint, Kind, described
from models.descriptions import Described, parse, read_config, read_json, refuse_unknown, refused
from models.modules import PYLATE, Dense, Head, Modules, Normalize, Pooling, module_list, read_head
from models.vocabulary import Vocabulary
from service.bundle import Expansion, LateInteraction, Role
from service.errors import CheckpointError

METADATA = "artifact.metadata"
KIND = Kind(
    ("MultiVectorEncoder", "ColBERT"), settings=frozenset(("query_length", "document_length", "query_expansion"))
)

_SAVED = "config_sentence_transformers.json"
_COLBERT = "HF_ColBERT"


def is_late_interaction(root: Path) -> bool:
    """Whether the folder says of itself that it gives vectors of tokens to be compared."""
    if read_json(root / _SAVED, optional=True).get("model_type") in KIND.model_types:
        return True
    return _COLBERT in (read_config(root / "config.json", optional=True).get("architectures") or ())


def read_late_interaction(root: Path) -> Checkpoint:
    """Raises CheckpointError for what is missing, malformed or not understood."""
    if not (root / "modules.json").is_file():
        return _colbert(root)
    if read_json(root / _SAVED, optional=True).get("model_type") == "ColBERT":
        return _pylate(root)
    return _multi_vector(root)


@dataclass(frozen=True)
class _Wishes:
    """What any of the three kinds says. Lengths in tokens; None: all that the model reads."""

    query_length: int | None
    document_length: int | None
    expansion: _Expansion | None
    prefixes: Mapping[Role, str]  # in which a token of their own begins
    skipped_words: Sequence[str]
    skipped_in: tuple[Role, ...] = ("document",)


def _assembled(root: Path, modules: Modules, wishes: _Wishes) -> Checkpoint:
    common = described(root, modules, KIND)
    vocabulary = Vocabulary.of(common.folder)
    longest = architecture_of(common.config).positions or common.max_seq_length
    expansion = wishes.expansion
    most_of_query = wishes.query_length or common.max_seq_length
    if expansion is not None:
        most_of_query = expansion.length if expansion.strategy == "fixed" else max(expansion.length, most_of_query)
    skipped = (vocabulary.find(word) for word in wishes.skipped_words)
    late = LateInteraction(
        query_length=min(most_of_query, longest),
        document_length=min(wishes.document_length or common.max_seq_length, longest),
        expansion=None if expansion is None else _expansion(expansion, longest, vocabulary),
        skipped_tokens=tuple(sorted({token for token in skipped if token is not None})),
        skipped_in=wishes.skipped_in,
    )
    prompts: dict[str, str] = dict(common.prompts)
    prompts.update({role: text for role, text in wishes.prefixes.items() if text})
    return replace(
        common,
        task="tokens",
        late=late,
        prompts=prompts,
        max_seq_length=max(late.query_length, late.document_length),
        single_tokens=tuple(_marker(prefix, vocabulary) for prefix in wishes.prefixes.values() if prefix),
    )


def _expansion(wish: _Expansion, longest: int, vocabulary: Vocabulary) -> Expansion:
    if wish.length > longest:
        raise refused("the query expansion", f"its length {wish.length} is more than the {longest} that are read")
    if wish.token is not None:
        token = vocabulary.find(wish.token)
        if token is None:
            raise refused("the query expansion", f"its token {wish.token!r} is not in the vocabulary")
    else:
        token = vocabulary.filler
    return Expansion(token_id=token, length=wish.length, attended=wish.attend)


def _marker(prefix: str, vocabulary: Vocabulary) -> str:
    """The prefix as one token: all of it, with its space, or its first word."""
    for text in (prefix, *prefix.split()[:1]):
        if vocabulary.find(text) is not None:
            return text
    raise refused(_SAVED, f"the prefix {prefix!r} is no token of the vocabulary, so nobody has trained it")


# ------------------------------------------------------------------------------------ sentence-transformers


class _Expansion(Described):
    strategy: Literal["fixed", "min"]
    length: int = Field(ge=1)
    attend: bool = False
    token: str | None = None


class _SentenceBert(Described):
    query_length: int | None = Field(None, ge=1)
    document_length: int | None = Field(None, ge=1)
    query_expansion: _Expansion | None = None


class _Mask(Described):
    skiplist_words: tuple[str, ...] = ()
    skiplist_tasks: tuple[Role, ...] = ("document",)
    keep_only_token_ids: list[int] | None = None


def _multi_vector(root: Path) -> Checkpoint:
    path = root / "modules.json"
    modules = module_list(path)
    if [kind for kind, _ in modules[:1]] != ["Transformer"]:
        raise refused(path, "its first module is not a Transformer")
    masks = [folder for kind, folder in modules if kind == "MultiVectorMask"]
    if len(masks) != 1:
        raise refused(path, f"it has {len(masks)} modules MultiVectorMask, one is understood")
    mask = parse(_Mask, masks[0] / "config.json")
    refuse_unknown(masks[0] / "config.json", {**(mask.model_extra or {}), "keep_only": mask.keep_only_token_ids})
    folder = modules[0][1]
    sentence = parse(_SentenceBert, folder / "sentence_bert_config.json", optional=True)
    if sentence.query_expansion is not None:
        refuse_unknown(folder / "sentence_bert_config.json", sentence.query_expansion.model_extra or {})
    rest = [one for one in modules[1:] if one[0] != "MultiVectorMask"]
    wishes = _Wishes(
        sentence.query_length,
        sentence.document_length,
        sentence.query_expansion,
        {},
        mask.skiplist_words,
        mask.skiplist_tasks,
    )
    return _assembled(root, Modules(folder, _NO_POOLING, tuple(_heads(path, rest))), wishes)


_NO_POOLING = Pooling(("mean",))  # of the width of a token's vector, which `heads` begin with; nothing is pooled


def _heads(path: Path, modules: Sequence[tuple[str, Path]]) -> Iterator[Head]:
    for kind, folder in modules:
        if kind not in ("Dense", "Normalize"):
            raise refused(path, f"module {kind} is not understood for vectors of tokens (Dense and Normalize are)")
        head = read_head(path, kind, folder, of="token_embeddings")
        assert head is not None
        yield head


# --------------------------------------------------------------------------------------------------- PyLate


class _PyLate(Described):
    """Defaults are PyLate's."""

    query_prefix: str | None = None
    document_prefix: str | None = None
    query_length: int | None = Field(None, ge=1)
    document_length: int | None = Field(None, ge=1)
    do_query_expansion: bool | None = None
    attend_to_expansion_tokens: bool | None = None
    skiplist_words: list[str] | None = None
    truncate_dim: int | None = None
    prompts: dict[str, str | None] | None = None


def _pylate(root: Path) -> Checkpoint:
    path = root / "modules.json"
    modules = module_list(path, known=PYLATE)
    kinds = [kind for kind, _ in modules]
    if kinds[:1] != ["Transformer"] or set(kinds[1:]) != {"Dense"}:
        raise refused(path, f"the modules are {', '.join(kinds)}; Transformer, Dense, … is understood of PyLate")
    saved = parse(_PyLate, root / _SAVED)
    if saved.truncate_dim is not None:
        raise refused(root / _SAVED, f"truncate_dim = {saved.truncate_dim} is not supported for vectors of tokens")
    length = saved.query_length or 32
    expansion = _Expansion(strategy="fixed", length=length, attend=bool(saved.attend_to_expansion_tokens))
    prefixes: dict[Role, str] = {
        "query": "[Q] " if saved.query_prefix is None else saved.query_prefix,
        "document": "[D] " if saved.document_prefix is None else saved.document_prefix,
    }
    if named := {name for name, text in (saved.prompts or {}).items() if text}:  # PyLate puts the prefix before those
        raise refused(root / _SAVED, f"prompts {sorted(named)} beside PyLate's prefixes are not supported")
    wishes = _Wishes(
        length,
        saved.document_length or 180,
        None if saved.do_query_expansion is False else expansion,
        prefixes,
        list(string.punctuation) if saved.skiplist_words is None else saved.skiplist_words,
    )
    heads = (*_heads(path, modules[1:]), Normalize())
    return _assembled(root, Modules(modules[0][1], _NO_POOLING, heads), wishes)


# -------------------------------------------------------------------------------------------- ColBERT's own


class _Metadata(Described):
    dim: int = Field(ge=1)
    query_token_id: str = "[unused0]"
    doc_token_id: str = "[unused1]"
    query_maxlen: int = Field(32, ge=1)
    doc_maxlen: int = Field(ge=1)
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False


def _colbert(root: Path) -> Checkpoint:
    if not (root / METADATA).is_file():
        raise CheckpointError(
            f"{root} has no {METADATA}, which says how ColBERT reads queries and documents",
            "fetch that file of the checkpoint as well",
        )
    found = parse(_Metadata, root / METADATA)
    hidden_size = architecture_of(read_config(root / "config.json")).hidden_size
    projection = Dense(root, hidden_size, found.dim, bias=False, activation="identity")
    wishes = _Wishes(
        found.query_maxlen,
        found.doc_maxlen,
        _Expansion(strategy="fixed", length=found.query_maxlen, attend=found.attend_to_mask_tokens),
        {"query": f"{found.query_token_id} ", "document": f"{found.doc_token_id} "},
        list(string.punctuation) if found.mask_punctuation else [],
    )
    return _assembled(root, Modules(root, _NO_POOLING, (projection, Normalize())), wishes)

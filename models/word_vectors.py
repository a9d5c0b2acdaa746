"""Files of word vectors → words and rows, block by block: word2vec in text and binary, GloVe.

    word2vec text     "words dimensions\\n", then a line a word: the word and its numbers (also fastText's .vec)
    word2vec binary   the same first line, then for each word: the word, a space, float32 in little endian
    glove             a line a word, without a first line

Any of them may be gzipped. What a file is follows from its content and never from its name.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np

from models.recipe import Format
from models.weights import Array
from service.errors import CheckpointError

FASTTEXT_MAGIC = struct.pack("<i", 793_712_314)
_GZIP_MAGIC = b"\x1f\x8b"
_HEAD = 1 << 18  # bytes that tell what a file is: more than a line of any dimension in use
_BLOCK = 1 << 22  # bytes read at once
_LINES = 4096  # parsed at once
_LONGEST_WORD = 1 << 16  # bytes; a "word" beyond it is not one
_LONGEST_NUMBER = 18  # digits
_MOST_DIMENSIONS = 1 << 16  # a row of more is no vector in use, and would be read at once
_FETCH_AGAIN = "fetch or make the file again"
_UNDERSTOOD = "word2vec (text, binary), GloVe and fastText .bin are understood"
_KNOWN_OTHERS = {
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x80": "a Python pickle, which is never loaded: in gensim, save it with save_word2vec_format",
    b"\x93NUMPY": "a numpy array without words",
}


@dataclass(frozen=True)
class Block:
    """Some words as their bytes, and their rows (words, dimensions)."""

    words: list[bytes]
    rows: Array


@dataclass(frozen=True)
class Header:
    """The first line of word2vec's files."""

    words: int
    dimensions: int


def opened(path: Path) -> BinaryIO:
    """The file's content, unpacked if it is gzipped. Raises CheckpointError."""
    try:
        file = path.open("rb")
        zipped = file.read(2) == _GZIP_MAGIC
        file.seek(0)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "check the file") from error
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file


def recognise(path: Path) -> Format:
    """Raises CheckpointError for what is none of them, or may be two of them."""
    with opened(path) as file:
        head = _read(path, file, _HEAD)
    if not head:
        raise CheckpointError(f"{path} is empty", _FETCH_AGAIN)
    if head.startswith(FASTTEXT_MAGIC):
        return "fasttext"
    for magic, what in _KNOWN_OTHERS.items():
        if head.startswith(magic):
            raise CheckpointError(f"{path} is {what}", _UNDERSTOOD)
    first, newline, rest = head.partition(b"\n")
    header = _header(first)
    if header is None:
        if not rest.strip() and len(first.split()) == 2 and all(one.isdigit() for one in first.split()):
            raise CheckpointError(f"{path} has no words: it ends with its first line", _FETCH_AGAIN)
        if newline and len(first.split()) > 1 and _are_numbers(first.split()[1:]):
            return "glove"
        raise CheckpointError(
            f"{path} is not a file of word vectors: it begins with {first[:40]!r}",
            f"{_UNDERSTOOD}; --format says which, where it is one",
        )
    second = rest.split(b"\n", 1)[0].split()
    is_text = len(second) > 1 and _are_numbers(second[1:])
    if is_text and header.dimensions == 1 and len(second) == 2:
        raise CheckpointError(
            f"{path} may be word2vec's text format with vectors of one number, or GloVe's whose first word is a number",
            "pass --format word2vec-text or --format glove to embedserve compile",
        )
    return "word2vec-text" if is_text else "word2vec-binary"


def blocks(path: Path, kind: Format) -> Iterator[Block]:
    """Every word of the file, in its order. Raises CheckpointError naming the line or word that is wrong."""
    with opened(path) as file:
        match kind:
            case "glove":
                yield from _text(path, file, None, 1)
            case "word2vec-text":
                yield from _text(path, file, _required_header(path, file), 2)
            case "word2vec-binary":
                yield from _binary(path, file, _required_header(path, file))
            case "fasttext":
                raise CheckpointError(f"{path} is read by models.fasttext", "report this defect")


# ---------------------------------------------------------------------------------------------- text


def _text(path: Path, file: BinaryIO, header: Header | None, first_line: int) -> Iterator[Block]:
    dimensions, count, line = header.dimensions if header else 0, 0, first_line
    lines = _lines(path, file)
    while batch := list(islice(lines, _LINES)):
        dimensions = dimensions or len(batch[0].split()) - 1
        if dimensions < 1:
            _wrong_line(path, line, f"has no numbers: {batch[0][:40]!r}")
        yield _parsed(path, batch, dimensions, line)
        count, line = count + len(batch), line + len(batch)
    if header and count != header.words:
        raise CheckpointError(
            f"{path} has {count} words, its first line says {header.words}", f"it is not complete: {_FETCH_AGAIN}"
        )


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Empty ones are only allowed at the end, and are left out there."""
    empty = 0
    try:
        for line in file:
            stripped = line.rstrip(b" \r\n")
            if stripped and empty:
                raise CheckpointError(f"{path} has {empty} empty lines before {stripped[:40]!r}", "remove them")
            if stripped:
                yield stripped
            else:
                empty += 1
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _parsed(path: Path, batch: Sequence[bytes], dimensions: int, line: int) -> Block:
    """Fields are counted from the right, as a few words of large GloVe files hold spaces."""
    split = [one.rsplit(b" ", dimensions) for one in batch]
    try:
        rows = np.array([parts[1:] for parts in split], dtype="S").astype(np.float32)
        if rows.shape == (len(batch), dimensions) and np.isfinite(rows).all() and _are_words(split):
            return Block([parts[0] for parts in split], rows)
    except ValueError:
        pass
    for number, one in enumerate(batch, line):
        _check_line(path, number, one, dimensions)
    raise CheckpointError(f"{path}: lines {line} to {line + len(batch) - 1} cannot be read", _FETCH_AGAIN)


def _are_words(split: Sequence[Sequence[bytes]]) -> bool:
    """A word with a space may also be a line with a number too many."""
    return not any(b" " in parts[0] and _are_numbers(parts[0].split()[1:]) for parts in split)


def _check_line(path: Path, number: int, line: bytes, dimensions: int) -> None:
    parts = line.split(b" ")
    found = next((i for i in range(len(parts), 0, -1) if not _are_numbers(parts[i - 1 : i])), 0)
    numbers = len(parts) - max(found, 1)
    if numbers != dimensions:
        _wrong_line(path, number, f"has {numbers} numbers after its word, not {dimensions}: {line[:40]!r}")
    if not np.isfinite(np.array(parts[-dimensions:], dtype="S").astype(np.float32)).all():
        _wrong_line(path, number, f"has a number that is not finite: {line[:40]!r}")


def _are_numbers(parts: Sequence[bytes]) -> bool:
    try:
        for part in parts:
            float(part)
    except ValueError:
        return False
    return True


def _wrong_line(path: Path, number: int, what: str) -> NoReturn:
    raise CheckpointError(f"{path}: line {number} {what}", _FETCH_AGAIN)


# -------------------------------------------------------------------------------------------- binary


def _binary(path: Path, file: BinaryIO, header: Header) -> Iterator[Block]:
    """word2vec.c writes a line feed behind each row, others do not."""
    size, kept, count = 4 * header.dimensions, b"", 0
    while count < header.words:
        data = _read(path, file, _BLOCK + size)
        kept += data
        words, raw, used = _records(kept, size, header.words - count)
        if not words:
            if len(data) < size or len(kept) > _LONGEST_WORD + _BLOCK + size:
                raise CheckpointError(
                    f"{path} ends or is garbled in word {count + 1} of {header.words}",
                    f"it is not complete, or not word2vec's binary format: {_FETCH_AGAIN}",
                )
            continue
        rows = np.frombuffer(b"".join(raw), "<f4").reshape(len(words), header.dimensions)
        if not np.isfinite(rows).all():
            raise CheckpointError(
                f"{path} has numbers that are not finite in words {count + 1} to {count + len(words)}",
                f"it is damaged, or not word2vec's binary format: {_FETCH_AGAIN}",
            )
        yield Block(words, rows.astype(np.float32, copy=False))
        count, kept = count + len(words), kept[used:]
    if (kept + _read(path, file, 16)).strip(b"\r\n"):
        raise CheckpointError(f"{path} goes on after the {header.words} words that it says it has", _FETCH_AGAIN)


def _records(data: bytes, size: int, limit: int) -> tuple[list[bytes], list[bytes], int]:
    """Whole records at the beginning of `data`: words, rows of `size` bytes, and the bytes they took."""
    words: list[bytes] = []
    raw: list[bytes] = []
    at = 0
    while len(words) < limit:
        space = data.find(b" ", at)
        if space < 0 or space + 1 + size > len(data):
            break
        words.append(data[at:space].lstrip(b"\n"))
        raw.append(data[space + 1 : space + 1 + size])
        at = space + 1 + size
    return words, raw, at


# ---------------------------------------------------------------------------------------------- both


def _header(line: bytes) -> Header | None:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() and len(part) <= _LONGEST_NUMBER for part in parts):
        return None
    header = Header(int(parts[0]), int(parts[1]))
    return header if header.words and 0 < header.dimensions <= _MOST_DIMENSIONS else None


def _required_header(path: Path, file: BinaryIO) -> Header:
    try:
        line = file.readline(_LONGEST_WORD)
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error
    if header := _header(line):
        return header
    raise CheckpointError(
        f"{path} does not begin with a line of two numbers, words and dimensions, but with {line[:40]!r}",
        "GloVe's files have no such line: --format glove",
    )


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    """Of gzip's own, a file that was cut off or changed."""
    return CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", _FETCH_AGAIN)

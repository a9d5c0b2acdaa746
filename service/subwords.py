"""The n-grams of a word, as fastText numbers them. Pure.

Bojanowski et al., "Enriching Word Vectors with Subword Information" (arXiv:1607.04606): a word that was never seen is
the mean of its n-grams' vectors, and all n-grams share so many vectors by their hash.
"""

from __future__ import annotations

_OFFSET, _PRIME, _MASK = 2_166_136_261, 16_777_619, 0xFFFF_FFFF

# fastText hashes signed characters: a byte above 127 is widened with ones in front, where FNV-1a would put zeros.
_WIDENED = tuple(byte if byte < 128 else byte | 0xFFFF_FF00 for byte in range(256))


def ngram_buckets(word: str, shortest: int, longest: int, buckets: int) -> list[int]:
    """A number below `buckets` for every n-gram of `shortest` to `longest` characters of <word>, in fastText's order;
    a single character does not count at either end. Empty where `buckets` or `longest` is 0."""
    if not (buckets and longest):
        return []
    letters = [letter.encode("utf-8", "surrogateescape") for letter in f"<{word}>"]
    last = len(letters)
    found = []
    for start in range(last):
        hashed = _OFFSET
        for stop in range(start, min(start + longest, last)):
            for byte in letters[stop]:
                hashed = ((hashed ^ _WIDENED[byte]) * _PRIME) & _MASK
            length = stop - start + 1
            if length >= shortest and not (length == 1 and (start == 0 or stop == last - 1)):
                found.append(hashed % buckets)
    return found

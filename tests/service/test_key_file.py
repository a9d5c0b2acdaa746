"""What lines of keys say."""

from __future__ import annotations

import hashlib

import pytest

from service.errors import StartupError
from service.key_file import Entry, digest, line_of, make_key, parse, parse_line
from service.rate_limits import Limits

USUAL = Limits(60, 6_000)
SECRET = "sk-0123456789abcdefghijklmnop"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.mark.parametrize("key", [SECRET, f"sha256:{HASH}", f"sha256:{HASH.upper()}"])
@pytest.mark.parametrize(
    ("options", "name", "limits"),
    [
        ("", None, USUAL),
        ("name=search", "search", USUAL),
        ("  requests_per_minute=5\ttokens_per_minute=7 ", None, Limits(5, 7)),
        ("tokens_per_minute=unlimited name=a.b-C_9", "a.b-C_9", Limits(60, None)),
    ],
)
def test_a_key_may_be_hashed_and_have_a_name_and_limits(key: str, options: str, name: str, limits: Limits) -> None:
    text = f"# of the search team\n\n  {key} {options}\n"
    assert parse(text, USUAL, "keys") == [Entry(digest(SECRET), name, limits)]


@pytest.mark.parametrize(
    "line",
    [
        f"{SECRET} more words",
        f"{SECRET} name=",
        f"{SECRET} name=ümlaut",
        f"{SECRET} name={'n' * 65}",
        f"{SECRET} requests_per_minute=0",
        f"{SECRET} requests_per_minute=-1",
        f"{SECRET} tokens_per_minute=many",
        f"{SECRET} tokens_per_minute=1e6",
        f"{SECRET} tokens_per_minute=99999999999999999999",
        f"{SECRET} # a comment",
        f"sha256:{HASH[1:]}",
        f"sha256:{SECRET}",
        "sha256:",
    ],
)
def test_a_mistake_is_named_by_its_line_and_nothing_of_the_key_is_shown(line: str) -> None:
    with pytest.raises(StartupError, match="keys, line 2") as refused:
        parse(f"# first\n{line}\n", USUAL, "keys")
    assert SECRET not in str(refused.value)
    assert HASH[2:] not in str(refused.value)


def test_a_key_stands_once_hashed_or_not() -> None:
    with pytest.raises(StartupError, match=r"line 2.*above as well"):
        parse(f"{SECRET}\nsha256:{HASH}", USUAL, "keys")


def test_keys_of_one_name_have_the_same_limits() -> None:
    old, new = line_of("old", "name=team"), line_of("new", "name=team")
    assert {one.owner for one in parse(f"{old}\n{new}", USUAL, "keys")} == {"team"}
    with pytest.raises(StartupError, match=r"line 2.*team has other limits"):
        parse(f"{old}\n{new} requests_per_minute=1", USUAL, "keys")


@pytest.mark.parametrize(("length", "is_short"), [(21, True), (22, False)])
def test_short_keys_are_told_where_they_can_be_seen(length: int, is_short: bool) -> None:
    key = "k" * length
    plain, hashed = parse(f"{key} name=plain", USUAL, "keys")[0], parse(line_of(key), USUAL, "keys")[0]
    assert (plain.is_short, hashed.is_short) == (is_short, False)


def test_made_keys_are_long_different_and_of_one_word() -> None:
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert len(key) >= 43
        assert parse(line_of(key, "name=x"), USUAL, "keys") == parse(f"{key} name=x", USUAL, "keys")


def test_a_hash_is_one_however_its_prefix_is_written() -> None:
    """Taken as a key, the hash as it stands would open the door."""
    written = line_of("a-key").replace("sha256:", "SHA256:")
    assert parse_line(written, Limits(), "here").digest == digest("a-key")
    with pytest.raises(StartupError, match="64 hexadecimal digits"):
        parse_line("Sha256:abc", Limits(), "here")

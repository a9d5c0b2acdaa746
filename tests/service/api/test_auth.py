"""Keys: where they are found, and which are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.api import auth
from service.api.auth import Keys, mask, presented_key
from service.errors import StartupError, Unauthenticated


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, None),
        ({b"authorization": b"Bearer k"}, {}, "k"),
        ({b"authorization": b"bearer  k "}, {}, "k"),
        ({b"authorization": b"Basic k"}, {}, None),
        ({b"authorization": b""}, {}, None),
        ({b"authorization": b"Bearer "}, {}, None),
        ({b"authorization": b"Bearer ", b"api-key": b"k"}, {}, "k"),
        ({b"x-goog-api-key": b"k"}, {}, "k"),
        ({}, {"key": "k"}, "k"),
        ({}, {"key": ""}, None),
        ({b"authorization": "Bearer schlüssel".encode("latin-1")}, {}, "schlüssel"),
        ({b"api-key": "schlüssel€".encode()}, {}, "schlüssel€"),
    ],
)
def test_where_keys_are_found(headers: dict[bytes, bytes], query: dict[str, str], expected: str | None) -> None:
    assert presented_key(headers, query) == expected


def test_only_the_keys_that_are_set_are_accepted() -> None:
    keys = Keys(["one", "two"])
    keys.check({b"api-key": b"one"}, {})
    keys.check({b"api-key": b"two"}, {})
    for wrong in (b"three", b"on", b"one ".replace(b" ", b"e"), b"\xff\xfe"):
        with pytest.raises(Unauthenticated) as refused:
            keys.check({b"api-key": wrong}, {})
        assert refused.value.masked_key is not None
    with pytest.raises(Unauthenticated) as missing:
        keys.check({}, {})
    assert missing.value.masked_key is None


def test_without_keys_everyone_is_let_in() -> None:
    Keys([]).check({}, {})
    Keys([]).check({b"api-key": b"anything"}, {})


def test_files_hold_a_key_a_line_beside_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\n\n one \ntwo\n")
    keys = Keys(["three"], path)
    for key in (b"one", b"two", b"three"):
        keys.check({b"api-key": key}, {})
    with pytest.raises(Unauthenticated):
        keys.check({b"api-key": b"# mine"}, {})


@pytest.mark.parametrize("content", ["", "# only a comment\n"])
def test_a_file_without_keys_does_not_open_the_door(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(StartupError, match="holds no key"):
        Keys([], path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        Keys([], tmp_path / "none")


def test_masks_tell_little() -> None:
    assert mask("sk-1234567890abcdef") == "sk******ef"
    assert mask("short") == "*****"


def test_a_rewritten_file_changes_the_keys_and_a_broken_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_LOOK_EVERY", 0.0)
    path = tmp_path / "keys"
    path.write_text("old-key")
    keys = Keys([], path)
    keys.check({b"api-key": b"old-key"}, {})
    path.write_text("the-new-key")
    keys.check({b"api-key": b"the-new-key"}, {})
    for damage in (lambda: path.write_text("# none"), path.unlink):
        damage()
        keys.check({b"api-key": b"the-new-key"}, {})
        for wrong in (b"old-key", b""):
            with pytest.raises(Unauthenticated):
                keys.check({b"api-key": wrong}, {})
    path.write_text("third-key")
    keys.check({b"api-key": b"third-key"}, {})


def test_no_rewritten_file_makes_a_key_one_of_others_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise whoever may embed could load and unload models, too."""
    monkeypatch.setattr(auth, "_LOOK_EVERY", 0.0)
    mine, theirs = tmp_path / "admins", tmp_path / "users"
    mine.write_text("admin")
    theirs.write_text("user")
    admins, users = Keys([], mine, "--admin-key-file"), Keys(["fixed"], theirs)
    admins.keep_apart(users)
    for content in ("user", "fixed\nmore"):
        mine.write_text(content)
        admins.check({b"api-key": b"admin"}, {})
        with pytest.raises(Unauthenticated):
            admins.check({b"api-key": content.split()[0].encode()}, {})
    theirs.write_text("admin")
    users.check({b"api-key": b"user"}, {})
    with pytest.raises(Unauthenticated):
        users.check({b"api-key": b"admin"}, {})
    mine.write_text("other")
    admins.check({b"api-key": b"other"}, {})
    with pytest.raises(StartupError, match="an admin key is an API key as well"):
        Keys(["fixed"]).keep_apart(users)


def test_a_name_has_one_limit_wherever_its_keys_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its keys would have an allowance each."""
    monkeypatch.setattr(auth, "_LOOK_EVERY", 0.0)
    with pytest.raises(StartupError, match="team has other limits"):
        Keys(["one name=team", "two name=team requests_per_minute=5"])
    (path := tmp_path / "keys").write_text("two name=team requests_per_minute=5")
    with pytest.raises(StartupError, match="team has other limits"):
        Keys(["one name=team"], path)
    Keys(["two name=team"], path)  # of a key in both places the file's line counts
    path.write_text("two name=team")
    keys = Keys(["one name=team"], path)
    path.write_text("three name=team requests_per_minute=5")
    keys.check({b"api-key": b"two"}, {})


@pytest.mark.parametrize("admins_look_first", [True, False])
def test_a_key_may_move_from_file_to_file_by_one_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, admins_look_first: bool
) -> None:
    """As Kubernetes exchanges a secret: by one link. Whoever is asked first looks at both files."""
    monkeypatch.setattr(auth, "_LOOK_EVERY", 0.0)
    for version, users_keys, admins_keys in (("1", "stays\nmoves", "revoked"), ("2", "stays", "moves")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "users").write_text(users_keys)
        (tmp_path / version / "admins").write_text(admins_keys)
    (data := tmp_path / "data").symlink_to("1")
    users, admins = Keys([], data / "users"), Keys([], data / "admins", "--admin-key-file")
    admins.keep_apart(users)
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(data)
    order = [(admins, b"moves"), (users, b"stays")]
    for keys, key in order if admins_look_first else order[::-1]:
        keys.check({b"api-key": key}, {})
    for keys, key in ((users, b"moves"), (admins, b"revoked")):
        with pytest.raises(Unauthenticated):
            keys.check({b"api-key": key}, {})


def test_a_key_in_both_files_for_a_while_is_taken_when_it_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files are rewritten one after the other, and the one that was refused is not touched again."""
    monkeypatch.setattr(auth, "_LOOK_EVERY", 0.0)
    theirs, mine = tmp_path / "users", tmp_path / "admins"
    theirs.write_text("stays\nmoves")
    mine.write_text("admin")
    users, admins = Keys([], theirs), Keys([], mine, "--admin-key-file")
    admins.keep_apart(users)
    mine.write_text("admin\nmoves")
    with pytest.raises(Unauthenticated):
        admins.check({b"api-key": b"moves"}, {})
    users.check({b"api-key": b"moves"}, {})
    theirs.write_text("stays")
    admins.check({b"api-key": b"moves"}, {})

"""Sealed texts: what opens them, what does not, and the file of the key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from resender.secret_box import SecretBox, SecretError

SECRET = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
LONG = "a passphrase of more than thirty-two characters"


@pytest.fixture
def box(tmp_path: Path) -> SecretBox:
    return SecretBox("", tmp_path / "data")


def key_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "account.key"


def test_sealed_text_opens_again_and_shows_nothing(box: SecretBox) -> None:
    sealed = box.seal(SECRET, "1")
    assert box.unseal(sealed, "1") == SECRET
    assert SECRET not in sealed
    assert sealed.isascii()
    assert box.seal(SECRET, "1") != sealed, "equal secrets cannot be told"


def test_another_program_opens_it_with_the_file(box: SecretBox, tmp_path: Path) -> None:
    assert SecretBox("", tmp_path / "data").unseal(box.seal(SECRET, "1"), "1") == SECRET


@pytest.mark.parametrize("other", ["2", "", "11", "1 "])
def test_it_opens_for_nobody_else(box: SecretBox, other: str) -> None:
    with pytest.raises(SecretError, match="belongs to another account"):
        box.unseal(box.seal(SECRET, "1"), other)


def test_key_file_is_made_when_something_is_sealed_for_its_owner_alone(
    box: SecretBox, tmp_path: Path
) -> None:
    path = key_file(tmp_path)
    assert not path.parent.exists()
    old = os.umask(0)
    try:
        box.seal(SECRET, "1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["account.key"]


def test_key_file_that_is_there_is_never_changed(box: SecretBox, tmp_path: Path) -> None:
    box.seal(SECRET, "1")
    before = key_file(tmp_path).read_bytes()
    box.seal(SECRET, "2")
    SecretBox("", tmp_path / "data").seal(SECRET, "3")
    assert key_file(tmp_path).read_bytes() == before


def test_of_two_that_make_it_at_once_one_is_kept(
    box: SecretBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Fernet.generate_key()
    link = os.link

    def slower(source: str, target: Path) -> None:
        target.write_bytes(theirs)
        target.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", slower)
    sealed = box.seal(SECRET, "1")
    assert key_file(tmp_path).read_bytes() == theirs
    assert box.unseal(sealed, "1") == SECRET
    assert [each.name for each in key_file(tmp_path).parent.iterdir()] == ["account.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o602])
def test_key_file_that_others_may_use_is_refused(box: SecretBox, tmp_path: Path, mode: int) -> None:
    sealed = box.seal(SECRET, "1")
    key_file(tmp_path).chmod(mode)
    with pytest.raises(SecretError, match="may be read by others: chmod 600"):
        box.unseal(sealed, "1")
    with pytest.raises(SecretError, match="may be read by others"):
        box.seal(SECRET, "1")


def test_key_file_of_somebody_else_is_refused(
    box: SecretBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = box.seal(SECRET, "1")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(SecretError, match="belongs to another user"):
        box.unseal(sealed, "1")


def test_stolen_database_without_the_key_file_cannot_be_read(box: SecretBox, tmp_path: Path) -> None:
    sealed = box.seal(SECRET, "1")
    thief = SecretBox("", tmp_path / "elsewhere")
    with pytest.raises(SecretError, match=r"account\.key is missing"):
        thief.unseal(sealed, "1")
    assert not (tmp_path / "elsewhere").exists(), "reading makes no key"
    thief.seal("something", "1")
    with pytest.raises(SecretError, match="sealed with another key, or is damaged"):
        thief.unseal(sealed, "1")
    with pytest.raises(SecretError, match="sealed with another key, or is damaged"):
        SecretBox(LONG, tmp_path / "data").unseal(sealed, "1")


def test_key_file_that_was_lost_is_not_remembered(box: SecretBox, tmp_path: Path) -> None:
    lost = box.seal(SECRET, "1")
    key_file(tmp_path).unlink()
    with pytest.raises(SecretError, match="is missing"):
        box.unseal(lost, "1")
    sealed = box.seal(SECRET, "2")
    assert SecretBox("", tmp_path / "data").unseal(sealed, "2") == SECRET


@pytest.mark.parametrize("damage", ["", "x", "é", "\ud800", "gAAAAAB"])
def test_damage_is_told_in_one_line(box: SecretBox, damage: str) -> None:
    box.seal(SECRET, "1")
    with pytest.raises(SecretError) as caught:
        box.unseal(damage, "1")
    assert "damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_changed_character_is_noticed(box: SecretBox) -> None:
    sealed = box.seal(SECRET, "1")
    for place in range(0, len(sealed) - 2, 7):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(SecretError):
            box.unseal(sealed[:place] + other + sealed[place + 1 :], "1")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, b"x" * 5000])
def test_file_that_holds_no_key_is_told(box: SecretBox, tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path)
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretError, match="holds no key"):
        box.seal(SECRET, "1")
    assert path.read_bytes() == content


def test_place_where_no_file_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SecretError, match="cannot be used"):
        SecretBox("", tmp_path / "file" / "data").seal(SECRET, "1")
    (tmp_path / "data" / "account.key").mkdir(parents=True)
    with pytest.raises(SecretError, match="cannot be used"):
        SecretBox("", tmp_path / "data").seal(SECRET, "1")


def test_setting_needs_no_file(tmp_path: Path) -> None:
    sealed = SecretBox(LONG, tmp_path / "data").seal(SECRET, "1")
    assert not (tmp_path / "data").exists()
    assert SecretBox(LONG, tmp_path / "elsewhere").unseal(sealed, "1") == SECRET
    with pytest.raises(SecretError, match="another key"):
        SecretBox(LONG + "!", tmp_path).unseal(sealed, "1")


def test_short_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="fewer than 32") as caught:
        SecretBox("too short a key", tmp_path).seal(SECRET, "1")
    assert "too short" not in str(caught.value)


def test_text_that_is_none_is_refused_without_being_told(box: SecretBox) -> None:
    with pytest.raises(SecretError) as caught:
        box.seal(SECRET + "\ud800", "1")
    assert SECRET not in str(caught.value)


def test_box_does_not_show_its_key(tmp_path: Path) -> None:
    assert LONG not in repr(SecretBox(LONG, tmp_path))

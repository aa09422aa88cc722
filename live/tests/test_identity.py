"""Which code runs: what counts as a change that was not committed."""

import subprocess

import pytest

from live import identity


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one file whose filter leaves out lines of output."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=tmp_path, check=True)

    monkeypatch.setattr(identity, "CHECKOUT", tmp_path)
    git("init", "--quiet")
    git("config", "filter.still.clean", "grep -v ^output")
    (tmp_path / ".gitattributes").write_text("*.book filter=still\n")
    (tmp_path / "a.book").write_text("question\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_checkout_is_as_committed_whatever_a_filter_takes_out(checkout):
    assert identity.is_dirty() is False
    (checkout / "a.book").write_text("question\noutput 42\n")
    assert identity.is_dirty() is False
    (checkout / "a.book").write_text("another question\noutput 42\n")
    assert identity.is_dirty() is True


def test_a_new_file_is_a_change_and_a_promoted_config_is_none(checkout):
    (checkout / "live/configs").mkdir(parents=True)
    (checkout / "live/configs/chosen.toml").touch()
    assert identity.is_dirty() is False
    (checkout / "live/new.py").touch()
    assert identity.is_dirty() is True


def test_outside_a_repository_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "CHECKOUT", tmp_path)
    assert identity.is_dirty() is None

"""Folders of this machine, where there is no home and where a process was killed."""

import os
import pwd
import time
from pathlib import Path

import pytest

from jaxlm.commands import doctor
from jaxlm.data import places
from jaxlm.errors import UserError
from jaxlm.formats import weights


@pytest.fixture
def homeless(monkeypatch):
    """As under `docker run --user 12345`: no HOME, and a user id that has no entry."""

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("JAXLM_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_without_a_home_is_told_what_to_set(homeless, monkeypatch):
    with pytest.raises(UserError, match="home folder of this user is not known.*JAXLM_CACHE=DIR"):
        places.default_cache()
    with pytest.raises(UserError, match="~/x: the home folder"):
        places.expanded("~/x")
    with pytest.raises(UserError, match="no such folder"):
        weights.find("no-such/model")
    assert any("JAXLM_CACHE" in problem for problem in doctor.folder_problems())
    monkeypatch.setenv("JAXLM_CACHE", "/somewhere")
    assert places.default_cache() == Path("/somewhere") and places.expanded("a/~b") == Path("a/~b")


def test_the_home_of_a_user_that_does_not_exist_is_a_message():
    with pytest.raises(UserError, match="~nobody-of-that-name/x"):
        places.expanded("~nobody-of-that-name/x")


def test_only_old_leftovers_are_removed(tmp_path):
    for name, age_h in (("x.tmp-1", 25), ("x.tmp-2", 1), ("x", 25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (0, time.time() - 3600 * age_h))
    places.remove_leftovers(tmp_path, "*.tmp-*")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.tmp-2"]


@pytest.mark.parametrize("named", [True, False])
def test_a_cache_in_a_bucket_is_refused(monkeypatch, named):
    monkeypatch.setenv("JAXLM_CACHE", "s3://bucket/cache")
    with pytest.raises(
        UserError, match=r"s3://bucket/cache: caches are folders of this machine.* Fix: name a folder"
    ):
        places.cache_folder("s3://bucket/cache" if named else "")

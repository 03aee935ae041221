"""One run at a time in a bucket: refused, taken over, and noticed by who lost it."""

import secrets
import threading

import pytest

from jaxlm.buckets.bucket import Bucket
from jaxlm.buckets.owner import FOLDER, Owner, Superseded
from jaxlm.errors import UserError


@pytest.fixture
def bucket() -> Bucket:
    return Bucket(f"memory://{secrets.token_hex(8)}/run")


def owner(bucket: Bucket, mirror: str, patience_s: float = 0.6) -> Owner:
    return Owner(bucket, mirror, beat_s=0.05, patience_s=patience_s)


def claim(one: Owner, alone: bool = True) -> list[str]:
    said: list[str] = []
    one.claim(alone=alone, say=said.append)
    return said


def test_a_living_owner_keeps_others_out(bucket):
    first, ended = owner(bucket, "a"), threading.Event()
    assert not claim(first)

    def live() -> None:
        while not ended.wait(0.05):
            first.beat()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(
            UserError, match=r"is in use by process \d+ on .+\. Fix: wait for it, stop it, or"
        ):
            claim(owner(bucket, "b", patience_s=20))
    finally:
        ended.set()
        thread.join()
    first.check()


def test_a_silent_owner_is_followed_and_notices(bucket):
    first, second = owner(bucket, "a"), owner(bucket, "b")
    claim(first)
    assert any("waiting up to" in line for line in claim(second))
    second.beat()
    for act in (first.check, first.beat, first.release):
        with pytest.raises(Superseded, match="another run trains in"):
            act()
    assert len(bucket.listed(FOLDER)) == 1


def test_an_owner_that_left_is_followed_at_once(bucket):
    first = owner(bucket, "a")
    claim(first)
    first.release()
    assert not claim(owner(bucket, "b", patience_s=1e6))


def test_the_dead_owner_of_the_same_mirror_is_followed_at_once_where_locks_say_that_it_is_dead(bucket):
    claim(owner(bucket, "a"))
    assert not claim(owner(bucket, "a", patience_s=1e6))
    assert claim(owner(bucket, "a"), alone=False), "nobody knows whether it is dead"


def test_of_several_at_once_one_wins(bucket):
    claim(owner(bucket, "dead"))
    won, barrier = [], threading.Barrier(4)

    def start(name: str) -> None:
        one = owner(bucket, name, patience_s=0.3)
        barrier.wait()
        try:
            claim(one)
        except UserError:
            return
        won.append(one)
        for _ in range(40):
            one.beat()
            threading.Event().wait(0.02)

    threads = [threading.Thread(target=start, args=(f"{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_an_owner_that_cannot_be_read_is_waited_for(bucket):
    claim(owner(bucket, "a"))
    bucket.write(f"{FOLDER}/00000001.json", b"[")
    assert claim(owner(bucket, "b"))

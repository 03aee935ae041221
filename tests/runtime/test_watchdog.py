"""A hang is noticed, a run that moves is not disturbed."""

import pathlib
import threading
import time

from jaxlm.runtime.watchdog import Watchdog


def wait_for(condition) -> None:
    end = time.monotonic() + 30.0
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def test_a_hang_writes_the_stacks_of_all_threads_and_one_line(tmp_path):
    lines: list[str] = []
    go = threading.Event()

    def stuck_in_the_feed() -> None:
        go.wait(60)

    thread = threading.Thread(target=stuck_in_the_feed)
    thread.start()
    with Watchdog(tmp_path, minutes=0.2 / 60, say=lines.append) as dog:
        dog.beat(12)
        wait_for(lambda: lines)
        time.sleep(0.5)  # the same hang is reported once
    go.set()
    thread.join()
    assert len(lines) == 1 and "after step 12" in lines[0]
    (path,) = (tmp_path / "crash").iterdir()
    assert str(path) in lines[0]
    assert "stuck_in_the_feed" in path.read_text()


def test_abort_ends_with_the_resumable_code(tmp_path):
    codes: list[int] = []
    with Watchdog(tmp_path, minutes=0.1 / 60, abort=True, say=lambda _: None, exit_now=codes.append):
        wait_for(lambda: codes)
    assert codes[0] == 75


def test_beats_keep_it_quiet_and_zero_switches_it_off(tmp_path):
    lines: list[str] = []
    with Watchdog(tmp_path, minutes=5.0, say=lines.append) as dog:
        for step in range(20):
            dog.beat(step)
    with Watchdog(pathlib.Path("/nowhere"), minutes=0.0, say=lines.append):
        assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    assert not lines and not (tmp_path / "crash").exists()


def test_a_folder_that_cannot_be_written_does_not_silence_it(tmp_path):
    lines: list[str] = []
    (tmp_path / "crash").write_text("a file")
    with Watchdog(tmp_path, minutes=0.1 / 60, say=lines.append):
        wait_for(lambda: lines)
    assert "could not be written" in lines[0]

import sys
import time

import pytest

from tests import hostile
from tests.hostile import ANSWER, LEAK, MAX_PEAK_MB, PAGE, Memory, run, table
from tests.serving import running_app

pytestmark = pytest.mark.slow

KEPT_MB = 80
MAX_SECONDS = 5


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The rows of all cases in their order, the memory above rest in MB, at most and at the end (None: not measured),
    the folder of the uploads, and the seconds that the slowest took."""
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder) as address:
        memory = Memory(int((folder / "app.pid").read_text())) if sys.platform == "linux" else None
        hostile.ask_about(address, "photo.jpg", hostile.encoded(hostile.photo(), "JPEG"))
        if memory:
            rest = memory.now()
            memory.forget_peak()
        rows, seconds, before = [], [], time.monotonic()
        for row in run(address):
            rows.append(row)
            seconds.append(time.monotonic() - before)
            before = time.monotonic()
        deadline = time.monotonic() + 60  # the janitor's rounds give memory back
        while memory and memory.now() - rest >= KEPT_MB and time.monotonic() < deadline:
            time.sleep(1)
        yield rows, memory and (memory.peak() - rest, memory.now() - rest), folder / "uploads", max(seconds)


def test_every_bad_file_and_call_is_answered_as_the_page_of_answers_says(found):
    told = PAGE.read_text()
    assert table(found[0]).splitlines() == told[told.index("| |") :].splitlines()


def test_every_answer_is_a_sentence_that_gives_nothing_of_the_server_away(found):
    for _, what, status, answer in found[0]:
        assert answer not in ("", "None", "Error", "Internal Server Error"), what
        assert not LEAK.search(answer), what
        assert status.startswith("200") or status == "closed" or 400 <= int(status) < 500, what


def test_the_server_is_there_for_the_next_good_picture(found):
    assert [(kind, *rest) for kind, _, *rest in found[0][-2:]] == [("last", "200", ANSWER)] * 2


def test_each_is_answered_within_5_seconds(found):
    assert found[3] < MAX_SECONDS


def test_the_memory_stays_within_300_mb_of_rest_and_comes_back(found):
    if found[1] is None:
        pytest.skip("/proc is Linux")
    most, last = found[1]
    assert most < MAX_PEAK_MB and last < KEPT_MB


def test_no_part_of_a_refused_upload_is_left(found):
    assert list(found[2].glob("tmp*")) == []

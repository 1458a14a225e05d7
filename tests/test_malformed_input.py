"""benchmarks/malformed_input.py: every answer to bad input, as docs/security/malformed-input.md says."""

import pytest

from benchmarks.malformed_input import ANSWER, PAGE, measure
from tests.http_calls import LEAK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    return measure()


def test_every_bad_file_and_call_is_answered_as_the_page_of_answers_says(found):
    documented = PAGE.read_text()
    assert found.table().splitlines() == documented[documented.index("|  |") :].splitlines()


def test_every_answer_is_a_sentence_that_gives_nothing_of_the_server_away(found):
    for _, what, status, answer in found.rows:
        assert answer not in ("", "None", "Error", "Internal Server Error"), what
        assert not LEAK.search(answer), what
        assert status.startswith("200") or status == "closed" or 400 <= int(status) < 500, what


def test_good_images_pass_afterwards_within_5_seconds_each_and_the_memory_comes_back(found):
    assert [row[2:] for row in found.rows[-2:]] == [("200", ANSWER)] * 2
    assert found.slowest < 5 and found.peak < 300 and found.kept < 80

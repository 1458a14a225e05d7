import pytest

from tests.hostile import ANSWER, LEAK, PAGE, drive, table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("app"))


def test_every_bad_file_and_call_is_answered_as_the_page_of_answers_says(found):
    told = PAGE.read_text()
    assert table(found.rows).splitlines() == told[told.index("| |") :].splitlines()


def test_every_answer_is_a_sentence_that_gives_nothing_of_the_server_away(found):
    for _, what, status, answer in found.rows:
        assert answer not in ("", "None", "Error", "Internal Server Error"), what
        assert not LEAK.search(answer), what
        assert status.startswith("200") or status == "closed" or 400 <= int(status) < 500, what


def test_the_server_is_there_for_the_next_good_picture_and_nothing_is_left(found):
    assert [(kind, *rest) for kind, _, *rest in found.rows[-2:]] == [("last", "200", ANSWER)] * 2
    assert found.left == []


def test_each_is_answered_within_5_seconds_and_the_memory_comes_back(found):
    assert found.slowest < 5 and found.peak < 300 and found.kept < 80

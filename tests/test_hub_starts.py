import json

import pytest

from tests import hub_starts


def test_the_page_on_hosting_shows_what_was_measured():
    text = hub_starts.PAGE.read_text()
    table = hub_starts.starts_table(json.loads(hub_starts.RESULT.read_text()))
    assert hub_starts.filled(text, table, begin=hub_starts.BEGIN) == text


def test_every_measured_start_was_within_15_seconds():
    situations = json.loads(hub_starts.RESULT.read_text())["situations"]
    assert len(situations) == 8 and all(len(each["seconds"]) >= 5 for each in situations.values())
    assert max(seconds for each in situations.values() for seconds in each["seconds"]) < 15


def test_a_row_gives_the_median_and_the_range():
    result = {"situations": {"silent": {"seconds": [3.0, 1.0, 2.04], "megabytes": [150, 160, 151]}}}
    assert hub_starts.starts_table(result).splitlines()[-1] == "| silent | 2.0 (1.0 to 3.0) | 151 MB |"


@pytest.mark.slow
def test_a_start_is_measured_to_the_served_page(tmp_path):
    took, memory, told = hub_starts.start(hub_starts.environment(hub_starts.REFUSED, tmp_path))
    assert 0.5 < took < 60 and 50 < memory < 2000 and "bundled" in told

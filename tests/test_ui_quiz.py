import json
from dataclasses import replace

import numpy as np
import pytest

from model import Classifier
from tests.markup import EVIL, find, pixels, text
from ui.answer import percent
from ui.dataset_browser import DatasetBrowser
from ui.quiz import quiz_html, rounds_of


@pytest.fixture
def browser(tiny_artifact, tmp_path) -> DatasetBrowser:
    return DatasetBrowser.of(Classifier.load(tiny_artifact), tmp_path)


def games(browser, count: int) -> list[set[int]]:
    """The indices that are asked for in so many games."""
    return [{one["index"] for one in rounds_of(browser, np.random.default_rng(k))} for k in range(count)]


def test_ten_different_images_are_asked_each_with_its_true_and_its_predicted_class(browser):
    rounds = rounds_of(browser, np.random.default_rng(0))
    assert len(rounds) == 10 and len({one["index"] for one in rounds}) == 10
    found = browser.predictions
    for one in rounds:
        position, row = browser.tests.indices.index(one["index"]), found.index.tolist().index(one["index"])
        assert np.array_equal(pixels(one["image"]), browser.tests.images[position])
        assert one["label"] == found.label[row] == browser.tests.labels[position]
        assert one["predicted"] == found.predicted[row] and one["confidence"] == percent(found.confidence[row])


def test_every_image_has_its_turn_but_those_that_are_here_because_they_are_misclassified(browser, tiny_artifact):
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    drawn = {entry["index"] for entry in about["test"]["images"]}
    assert set.union(*games(browser, 100)) <= drawn < set(browser.tests.indices)
    browser.tests = replace(browser.tests, drawn=range(12))
    played = games(browser, 40)
    assert set.union(*played) == set(browser.tests.indices[:12]) and len({frozenset(game) for game in played}) > 20


def test_of_fewer_than_ten_images_each_is_asked_once(browser):
    browser.tests = replace(browser.read(), drawn=range(3))
    rounds = rounds_of(browser, np.random.default_rng(0))
    assert sorted(one["index"] for one in rounds) == browser.tests.indices[:3]


def test_class_names_with_quotes_and_markup_come_out_whole(browser):
    browser.classifier.class_names = names = tuple(f"{EVIL}{k}" for k in range(10))
    rounds = rounds_of(browser, np.random.default_rng(0))
    html = quiz_html(browser, rounds)
    (quiz,) = find(html, "div", "quiz")
    assert json.loads(quiz["data-names"]) == list(names) and json.loads(quiz["data-rounds"]) == rounds
    assert find(html, "i") == [] and set(quiz.attributes) == {"class", "data-names", "data-rounds"}


def test_without_images_there_is_the_start_and_no_round(browser, tmp_path):
    browser.classifier.folder = tmp_path
    html = quiz_html(browser, rounds_of(browser, np.random.default_rng(0)))
    assert "Start the quiz" in text(html) and "data-rounds" not in find(html, "div", "quiz")[0]

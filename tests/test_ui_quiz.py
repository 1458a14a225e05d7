"""The quiz: which images are asked, with which answers."""

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


def play(browser, seed: int = 0) -> list[dict]:
    return rounds_of(browser, np.random.default_rng(seed))


def test_ten_different_images_are_asked_each_with_its_true_and_its_predicted_class(browser):
    rounds, found = play(browser), browser.predictions
    assert len(rounds) == 10 and len({one["index"] for one in rounds}) == 10
    for one in rounds:
        position, row = browser.tests.indices.index(one["index"]), found.index.tolist().index(one["index"])
        assert np.array_equal(pixels(one["image"]), browser.tests.images[position])
        assert one["label"] == found.label[row] == browser.tests.labels[position]
        assert one["predicted"] == found.predicted[row] and one["confidence"] == percent(found.confidence[row])


def test_every_image_has_its_turn_but_those_that_are_here_for_an_error(browser):
    browser.tests = replace(browser.read(), drawn=range(12))
    played = [frozenset(one["index"] for one in play(browser, seed)) for seed in range(40)]
    assert set.union(*map(set, played)) == set(browser.tests.indices[:12]) and len(set(played)) > 20
    browser.tests = replace(browser.tests, drawn=range(3))
    assert sorted(one["index"] for one in play(browser)) == browser.tests.indices[:3]


def test_class_names_with_quotes_and_markup_come_out_whole(browser):
    browser.classifier.class_names = names = tuple(f"{EVIL}{k}" for k in range(10))
    rounds = play(browser)
    (quiz,) = find(quiz_html(browser, rounds), "div")
    assert json.loads(quiz["data-names"]) == list(names) and json.loads(quiz["data-rounds"]) == rounds
    assert set(quiz) == {"class", "data-names", "data-rounds"}


def test_without_images_there_is_the_start_and_no_round(browser, tmp_path):
    browser.classifier.folder = tmp_path
    html = quiz_html(browser, play(browser))
    assert "Start the quiz" in text(html) and "data-rounds" not in find(html, "div", "quiz")[0]

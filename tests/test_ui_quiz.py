import json
from dataclasses import replace

import numpy as np
import pytest

from model import Classifier
from tests.markup import EVIL, find, pixels, text
from ui.answer import percent
from ui.quiz import quiz_html
from ui.test_images import Browser


@pytest.fixture
def browser(tiny_artifact, tmp_path) -> Browser:
    return Browser.of(Classifier.load(tiny_artifact), tmp_path)


def rounds_of(html: str) -> list[dict]:
    (quiz,) = find(html, "div", "quiz")
    return json.loads(quiz["data-rounds"])


def test_ten_different_images_are_asked_each_with_its_truth_and_what_the_network_said(browser):
    rounds = rounds_of(quiz_html(browser, np.random.default_rng(0)))
    assert len(rounds) == 10 and len({one["index"] for one in rounds}) == 10
    said = browser.predictions
    for one in rounds:
        position, row = browser.tests.indices.index(one["index"]), said.index.tolist().index(one["index"])
        assert np.array_equal(pixels(one["image"]), browser.tests.images[position])
        assert one["label"] == said.label[row] == browser.tests.labels[position]
        assert one["said"] == said.predicted[row] and one["sure"] == percent(said.confidence[row])


def test_the_names_that_are_offered_are_all_classes_in_label_order(browser):
    (quiz,) = find(quiz_html(browser, np.random.default_rng(0)), "div", "quiz")
    assert json.loads(quiz["data-names"]) == list(browser.classifier.class_names)


def test_another_game_asks_other_images_and_every_image_has_its_turn(browser):
    browser.tests = replace(browser.read(), drawn=range(12))
    games = [{one["index"] for one in rounds_of(quiz_html(browser, np.random.default_rng(k)))} for k in range(40)]
    assert set.union(*games) == set(browser.tests.indices[:12]) and len({frozenset(game) for game in games}) > 20


def test_images_that_are_here_because_the_network_was_wrong_are_not_asked(browser, tiny_artifact):
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    drawn = {entry["index"] for entry in about["test"]["images"]}
    games = [{one["index"] for one in rounds_of(quiz_html(browser, np.random.default_rng(k)))} for k in range(100)]
    assert set.union(*games) <= drawn < set(browser.tests.indices)
    assert len(set.union(*games)) > len(drawn) * 0.9


def test_of_fewer_than_ten_images_each_is_asked_once(browser):
    browser.tests = replace(browser.read(), drawn=range(3))
    rounds = rounds_of(quiz_html(browser, np.random.default_rng(0)))
    assert sorted(one["index"] for one in rounds) == browser.tests.indices[:3]


def test_class_names_with_quotes_and_markup_come_out_whole(browser):
    names = tuple(f"{EVIL}{k}" for k in range(10))
    browser.classifier.class_names = names
    html = quiz_html(browser, np.random.default_rng(0))
    (quiz,) = find(html, "div", "quiz")
    assert json.loads(quiz["data-names"]) == list(names) and len(rounds_of(html)) == 10
    assert find(html, "i") == [] and set(quiz.attributes) == {"class", "data-names", "data-rounds"}


def test_without_images_there_is_the_start_and_no_round(browser, tmp_path):
    browser.classifier.folder = tmp_path
    html = quiz_html(browser, np.random.default_rng(0))
    assert "Start the quiz" in text(html) and "data-rounds" not in find(html, "div", "quiz")[0]

"""The model card: its numbers, and its sentences that stand there only where they are true."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from model import artifact
from model.artifact import Pretrained, PretrainedNetwork, Scores
from model.preprocess import to_square_rgb
from trainer import card
from ui.accuracy import training_html


@pytest.fixture(scope="module")
def found(tiny_artifact):
    return artifact.read(tiny_artifact)


@pytest.fixture
def text_of(found, tmp_path):
    """The card of the tiny artifact with other metrics, training or config."""

    def write(config=found.config, training=found.metrics.training, **splits):
        card.write_card(replace(found.metrics, training=training, **splits), config, tmp_path / "card.md")
        return (tmp_path / "card.md").read_text()

    return write


def test_the_card_has_val_and_test_results_that_the_hub_reads(found, tiny_artifact):
    matter = yaml.safe_load((tiny_artifact / artifact.CARD).read_text().split("---\n")[1])
    assert matter["library_name"] and matter["license"] and matter["datasets"] == ["cifar10"]
    assert matter["pipeline_tag"] == "image-classification"
    (entry,) = matter["model-index"]
    names = [result["dataset"]["name"] for result in entry["results"]]
    assert names == ["CIFAR-10 val (n = 30)", "CIFAR-10 test (n = 250)"]
    results = {result["metrics"][0]["name"]: result["metrics"][0]["value"] for result in entry["results"]}
    assert results == {
        "val accuracy": pytest.approx(found.metrics.val.accuracy, abs=5e-5),
        "test accuracy": pytest.approx(found.metrics.test.accuracy, abs=5e-5),
    }


def test_the_card_states_numbers_selection_and_every_setting(found, text_of, tiny_artifact):
    text, training, test = text_of(), found.metrics.training, found.metrics.test
    assert text == (tiny_artifact / artifact.CARD).read_text() and text.endswith("another network.\n")
    low, high = test.accuracy_interval
    assert f"| test | 250 | {test.accuracy:.2%} | {low:.2%} to {high:.2%} | {test.loss:.4f} |\n" in text
    assert f"{training.parameters:,} parameters" in text and "shape (N, 3, 32, 32)" in text
    assert f"epoch {training.best_epoch}, the highest accuracy on 30 validation images" in text
    errors = np.array(test.confusion_matrix) * ~np.eye(10, dtype=bool)
    true, predicted = (found.config.class_names[k] for k in divmod(int(errors.argmax()), 10))
    assert f"errors on the test images: {true} predicted as {predicted} ({errors.max()} of 25)," in text
    assert " in 10 minutes." in text_of(training=replace(training, wall_seconds=600))
    for name, value in training.hyperparameters.items():
        assert f"| `{name}` | {value} |" in text
    assert not any(word in text for word in ("More Information Needed", "{{", "{%", "None."))


def test_the_card_tells_the_flipped_view_apart_where_it_is_known(found, text_of):
    flips = [
        Scores(n=scores.n, correct=k, accuracy=k / scores.n, accuracy_interval=(0.0, 0.5), loss=k / 9)
        for k, scores in enumerate((found.metrics.val, found.metrics.test), 3)
    ]
    val, test = (replace(found.metrics.val, flip_tta=flips[0]), replace(found.metrics.test, flip_tta=flips[1]))
    text = text_of(val=val, test=test)
    (line,) = [line for line in text.splitlines() if "horizontal flip" in line]
    assert "val 10.00% (0.00% to 50.00%), loss 0.3333; test 1.60% (0.00% to 50.00%), loss 0.4444. All" in line
    val, test = (replace(scores, flip_tta=None) for scores in (found.metrics.val, found.metrics.test))
    assert text_of(val=val, test=test) == text.replace(f"{line}\n\n", "")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_snippet_makes_an_image_square_as_the_page_does(found, text_of, fit):
    (line,) = re.findall(r"\nimage = (.*32.*)\n", text_of(replace(found.config, fit=fit)))
    ramp = np.linspace(0, 200, 96, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp[None, :, None], (48, 96, 3)).copy())
    made = eval(line, {"image": image, "ImageOps": ImageOps})
    assert np.abs(np.asarray(made, float) - np.asarray(to_square_rgb(image, fit, 32), float)).mean() < 3


def test_the_card_says_what_the_run_has_otherwise_than_its_recipe(found, text_of):
    flags = " ".join(f"`{change}`" for change in found.metrics.training.changes)
    assert "`--max-epochs 2`" in flags and f"\nRecipe `default` with the overrides {flags}, 2 epochs on " in text_of()
    plain = text_of(training=replace(found.metrics.training, changes=()))
    assert plain == text_of().replace(f" with the overrides {flags}", "")


def test_settings_that_no_longer_exist_are_shown_by_name_on_card_and_page(found, text_of, tiny_artifact):
    settings = found.metrics.training.hyperparameters | {"of_old": 7}
    training = replace(found.metrics.training, hyperparameters=settings, changes=("--of-old 7",))
    card_text = text_of(training=training)
    assert "| `of_old` | 7 |" in card_text and "`--of-old 7`" in card_text
    metrics = replace(found.metrics, training=training)
    page = training_html(metrics, found.config, artifact.read_history(tiny_artifact))
    assert re.search(r"of_old</\w+>\s*<\w+>7<", page) and "--of-old 7" in page


def test_the_card_says_which_networks_took_part(found, text_of):
    network = {"recipe": "record", "seed": 0, "epochs": 7, "parameters": 1, "depth": 56, "val_accuracy": 0.95}
    first = PretrainedNetwork(**network, sha256="0" * 64)
    both = Pretrained(initial_weights=first, teacher=replace(first, depth=110))
    text = text_of(training=replace(found.metrics.training, pretrained=both))
    facts = "(recipe `record`, 7 epochs, val accuracy 95.00%, trained with the same validation images held out)."
    sentence = f"\nFine-tuned from ResNet-56 {facts} Distilled from the teacher ResNet-110 {facts}\n"
    assert sentence in text and text.replace(sentence, "") == text_of()


def test_the_card_says_what_the_threshold_is_where_there_is_one(found, text_of):
    sentence = (
        " `Classifier.is_in_distribution` reports an image whose highest logit is below the OOD threshold, "
        f"{found.config.threshold:.3f}. 95% of validation images reach it, but so do many out-of-distribution images."
    )
    assert text_of().count(sentence) == 1
    assert text_of(replace(found.config, threshold=None)) == text_of().replace(sentence, "")

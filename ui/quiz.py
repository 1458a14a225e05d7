"""A small quiz: you against the network on ten test images. Played in the browser; the server only draws the images."""

import json
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ui.answer import inline_png, percent

ROUNDS = 10

START = (
    f'<div class="quiz"><p>{ROUNDS} test images drawn at random, 32 × 32 pixels each. The network was never trained on '
    "them; neither were you.</p>"
    '<button type="button" class="go" data-start="1">Start the quiz</button></div>'
)


def build(browser: Any) -> None:
    """Puts the quiz into the Blocks that is being built. `browser` is a `ui.test_images.Browser`."""
    shown = gr.HTML(START, elem_id="quiz", apply_default_css=False, js_on_load=QUIZ_JS)

    def draw():
        return quiz_html(browser, np.random.default_rng())

    shown.start(draw, None, shown, show_progress="minimal", api_visibility="private")


def quiz_html(browser: Any, random: np.random.Generator) -> str:
    """Ten images for QUIZ_JS to play, none twice and none preferred: those that are on the page because the network was
    wrong take no part."""
    if browser.read() is None:
        return START
    tests, said = browser.tests, browser.predictions
    rounds = []
    for position in random.permutation(tests.drawn)[:ROUNDS]:
        row = browser.rows[tests.indices[position]]
        rounds.append(
            {
                "image": inline_png(Image.fromarray(tests.images[position])),
                "index": tests.indices[position],
                "label": int(said.label[row]),
                "said": int(said.predicted[row]),
                "sure": percent(said.confidence[row]),
            }
        )
    names = list(browser.classifier.class_names)
    return (
        f'<div class="quiz" data-names="{escape(json.dumps(names))}" data-rounds="{escape(json.dumps(rounds))}"></div>'
    )


QUIZ_JS = """
let rounds = [], names = [], round = 0, mine = 0, theirs = 0;
const make = (tag, text, attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
const root = () => element.querySelector('.quiz');
const score = () => `You ${mine}, network ${theirs}`;

function begin() {
  if (!root() || !root().dataset.rounds) return;
  rounds = JSON.parse(root().dataset.rounds);
  names = JSON.parse(root().dataset.names);
  round = mine = theirs = 0;
  ask();
}

function ask() {
  const {image} = rounds[round];
  const heading = make('h3', `Image ${round + 1} of ${rounds.length}: what is it?`, {tabindex: '-1'});
  const choices = make('div', '', {class: 'choices', role: 'group', 'aria-label': 'Your answer'});
  names.forEach((name, k) => choices.append(make('button', name, {type: 'button', 'data-choice': k})));
  root().replaceChildren(
    make('p', score(), {class: 'score'}), heading,
    make('img', '', {class: 'pixels', src: image, alt: `Test image to guess, number ${round + 1}`}),
    choices, make('p', '', {class: 'outcome', role: 'status'}));
  heading.focus({preventScroll: true});
}

function answer(choice) {
  const {label, said, sure, index} = rounds[round];
  mine += choice === label;
  theirs += said === label;
  for (const button of element.querySelectorAll('[data-choice]')) {
    button.disabled = true;
    if (Number(button.dataset.choice) === label) button.classList.add('truth');
    if (Number(button.dataset.choice) === choice) button.setAttribute('aria-pressed', 'true');
  }
  const you = choice === label ? 'You are right' : `You said ${names[choice]}`;
  const network = said === label ? 'the network is right' : `the network said ${names[said]}`;
  element.querySelector('.outcome').textContent =
    `It is ${names[label]}. ${you}, ${network} (${sure} sure). Test image ${index}.`;
  element.querySelector('.score').textContent = score();
  round += 1;
  const next = round < rounds.length
    ? make('button', 'Next image', {type: 'button', class: 'go', 'data-next': 1})
    : make('button', 'Play again', {type: 'button', class: 'go', 'data-start': 1});
  if (round === rounds.length) {
    const end = mine > theirs ? 'You beat the network' : mine < theirs ? 'The network wins' : 'A draw';
    root().append(make('p', `${end}: ${score()}, of ${rounds.length}.`, {class: 'end', role: 'status'}));
  }
  root().append(next);
  next.focus({preventScroll: true});
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.choice !== undefined) answer(Number(button.dataset.choice));
  else if (button.dataset.next) ask();
  else if (button.dataset.start) trigger('start', {});
});
watch('value', begin);
"""

// Played in the browser: the server draws the images.
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
  const {label, predicted, confidence, index} = rounds[round];
  mine += choice === label;
  theirs += predicted === label;
  for (const button of element.querySelectorAll('[data-choice]')) {
    button.disabled = true;
    if (Number(button.dataset.choice) === label) button.classList.add('truth');
    if (Number(button.dataset.choice) === choice) button.setAttribute('aria-pressed', 'true');
  }
  const you = choice === label ? 'You are correct' : `You said ${names[choice]}`;
  const network = predicted === label ? 'the network is correct' : `the network predicted ${names[predicted]}`;
  element.querySelector('.outcome').textContent =
    `True class: ${names[label]}. ${you}, ${network} (confidence ${confidence}). Test image ${index}.`;
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

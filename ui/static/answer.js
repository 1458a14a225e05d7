// A bar chooses whose class activation map is shown.
element.addEventListener('click', (event) => {
  const bar = event.target.closest('.bar');
  if (!bar) return;
  const answer = bar.closest('.answer');
  for (const one of answer.querySelectorAll('.bar')) one.setAttribute('aria-pressed', one === bar);
  for (const map of answer.querySelectorAll('.map')) map.hidden = map.dataset.class !== bar.dataset.class;
  answer.querySelector('.of').textContent = bar.dataset.name;
});

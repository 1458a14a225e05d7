// The images of the cell that is pressed in the confusion matrix. The status is changed in place, so that a screen
// reader says it and not the images.
const status = element.querySelector('[role=status]');
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
watch('value', () => {
  const answer = props.value;
  const cell = document.querySelector('#confusion').rows[answer.true + 1].cells[answer.predicted + 1];
  if (!cell.querySelector('[aria-pressed]')) return; // another one was pressed meanwhile
  status.textContent = answer.status;
  status.classList.add('sr-only');
  element.querySelector('.images').innerHTML = answer.images;
  requestAnimationFrame(() => element.closest('#cell').scrollIntoView({block: 'nearest', behavior: calm ? 'auto' : 'smooth'}));
});
// Where the app is a part of another page, a link to another view would leave that.
element.addEventListener('click', (event) => {
  const link = pageAddress.embedded() && event.target.closest('a[href^="?"]');
  if (link) Object.assign(link, {href: `${pageAddress.app()}/${link.getAttribute('href')}`, target: '_blank', rel: 'noopener'});
});

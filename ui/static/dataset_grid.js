// The grid shows what the address says, filters and page; a click on a page link or an image is written there.
const wanted = () => {
  const parameters = pageAddress.view().searchParams;
  return {asked: new URLSearchParams([...parameters].filter(([name]) => props.names.includes(name))).toString()};
};
pageAddress.follow('grid', wanted, {element, trigger, watch});

const mark = () => {
  const index = pageAddress.view().searchParams.get('image');
  for (const tile of element.querySelectorAll('.tile')) tile.setAttribute('aria-current', tile.dataset.index === index);
};
watch('value', () => requestAnimationFrame(mark));

element.addEventListener('click', (event) => {
  const link = event.target.closest('.page-link'), tile = event.target.closest('.tile');
  if (!link && !tile) return;
  const url = pageAddress.view();
  if (tile) {
    url.searchParams.set('image', tile.dataset.index);
    const answer = document.querySelector('#test-answer');
    if (answer.getBoundingClientRect().top > element.getBoundingClientRect().bottom) {  // on a phone
      const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
      answer.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
    }
  } else {
    if (element.querySelector('[data-asked]').dataset.asked !== wanted().asked) return;  // another grid is under way
    const page = Number(link.dataset.page);
    if (page > 1) url.searchParams.set('grid-page', page); else url.searchParams.delete('grid-page');
  }
  pageAddress.show(url);
  mark();
});

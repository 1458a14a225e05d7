// The grid shows what the address says, filters and page; a click on a page link or an image is written there.
const wanted = () => {
  const parameters = pageAddress.view().searchParams;
  return {asked: new URLSearchParams([...parameters].filter(([name]) => props.names.includes(name))).toString()};
};
pageAddress.follow('grid', wanted, {element, trigger, watch});

element.addEventListener('click', (event) => {
  const link = event.target.closest('.page-link'), tile = event.target.closest('.tile');
  if (!link && !tile) return;
  const url = pageAddress.view();
  if (tile) {
    for (const one of element.querySelectorAll('.tile')) one.setAttribute('aria-current', one === tile);
    url.searchParams.set('image', tile.dataset.index);
  } else {
    if (element.querySelector('[data-asked]').dataset.asked !== wanted().asked) return;  // another grid is under way
    const page = Number(link.dataset.page);
    if (page > 1) url.searchParams.set('grid-page', page); else url.searchParams.delete('grid-page');
  }
  pageAddress.show(url);
});

// One tab stop, arrow keys, Home and End; a click, Enter or Space presses the button and triggers `cell`. Places are
// counted in the table, whose first row and column are headers. The address names the cell by its two classes.
const table = element.querySelector('#confusion');
const buttonAt = (row, column) => table.rows[row]?.cells[column]?.querySelector('button');
const place = (button) => [button.closest('tr').rowIndex, button.closest('td').cellIndex];
const trueNames = [...table.rows].map((row) => row.cells[0].textContent);
const predictedNames = [...table.rows[0].cells].map((cell) => cell.textContent);
let current = table.querySelector('button[tabindex="0"]');

function select(button) {
  current.tabIndex = -1;
  button.tabIndex = 0;
  current = button;
}
function neighbor(button, down, right) {
  let [row, column] = place(button);
  do { row += down; column += right; } while (table.rows[row]?.cells[column] && !buttonAt(row, column));
  return buttonAt(row, column);
}
const inRow = (button) => [...button.closest('tr').querySelectorAll('button')];
const moves = {
  ArrowUp: (button) => neighbor(button, -1, 0),
  ArrowDown: (button) => neighbor(button, 1, 0),
  ArrowLeft: (button) => neighbor(button, 0, -1),
  ArrowRight: (button) => neighbor(button, 0, 1),
  Home: (button) => inRow(button)[0],
  End: (button) => inRow(button).at(-1),
};
element.addEventListener('keydown', (event) => {
  const button = event.target.closest('#confusion button');
  if (!button || !moves[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const next = moves[event.key](button);
  if (next) { select(next); next.focus(); }
});
element.addEventListener('mouseover', (event) => {
  const button = event.target.closest('#confusion button');
  if (button) button.title = button.getAttribute('aria-label');
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('#confusion button');
  if (!button) return;
  select(button);
  table.querySelector('[aria-pressed]')?.removeAttribute('aria-pressed');
  button.setAttribute('aria-pressed', 'true');
  const [row, column] = place(button);
  const url = pageAddress.view();
  url.searchParams.set('row', trueNames[row]);
  url.searchParams.set('column', predictedNames[column]);
  pageAddress.show(url);
  trigger('cell', {true: row - 1, predicted: column - 1});
});
const asked = pageAddress.view().searchParams;
buttonAt(trueNames.indexOf(asked.get('row')), predictedNames.indexOf(asked.get('column')))?.click();

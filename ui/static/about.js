const address = pageAddress.app();
const served = element.querySelector('.about').dataset.page;
const status = element.querySelector('[role=status]');
// What is no plain address stays out: the code is pasted into shells.
if (/^https?:\/\/[\w.:\[\]\/~%-]+$/.test(address)) {
  for (const code of element.querySelectorAll('pre code')) {
    code.textContent = code.textContent.replaceAll(served, () => address);
  }
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch { // without https, or where a frame may not
    window.getSelection().selectAllChildren(code);
    return document.execCommand('copy');
  }
}

element.addEventListener('click', async (event) => {
  const button = event.target.closest('button.copy');
  if (!button) return;
  const done = await copy(element.querySelector(`#${button.dataset.code}`));
  const word = button.querySelector('span');
  word.textContent = done ? 'Copied' : 'Press Ctrl+C';
  status.textContent = word.textContent;
  setTimeout(() => { word.textContent = 'Copy'; status.textContent = ''; }, 2500);
});

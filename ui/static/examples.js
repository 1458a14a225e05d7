element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.getAttribute('aria-pressed') === 'true') return;
  document.getElementById('examples').dataset.picked = button.dataset.name;  // marked by upload_field.js once it is shown
  trigger('pick', {name: button.dataset.name});
});

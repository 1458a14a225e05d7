// What the upload field (gr.Image) needs and gradio has no setting for. Events send the file that gradio has stored,
// whatever is drawn in its place.
{
  const inField = (event) => event.target instanceof Element && event.target.closest('#upload');
  const isImage = (file) => file.type.startsWith('image/');

  // Gradio refuses a file whose type is no image's, but a browser tells the type by the name, and knows few.
  const asImages = (files) => {
    const transfer = new DataTransfer();
    for (const file of files) {
      transfer.items.add(isImage(file) ? file : new File([file], file.name, {type: 'image/x-unknown'}));
    }
    return transfer;
  };
  document.addEventListener('change', (event) => {
    const files = inField(event) && event.target.files;
    if (files && ![...files].every(isImage)) event.target.files = asImages(files).files;
  }, true);
  document.addEventListener('drop', (event) => {
    const files = inField(event) && event.dataTransfer?.files;
    if (!files || [...files].every(isImage)) return;
    event.preventDefault();
    event.stopPropagation();
    const dataTransfer = asImages(files);
    event.target.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
  }, true);

  // A file that the browser cannot draw (TIFF, HEIC) is shown by what the answer brings of it.
  const nothing = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=';
  const draw = () => {
    for (const image of document.querySelectorAll('#upload img[data-undrawn]')) {
      if (image.src.startsWith('data:') || image.src === image.dataset.undrawn) {
        image.src = element.querySelector('.stack img')?.src ?? nothing;
      } else {  // another file since
        delete image.dataset.undrawn;
      }
    }
  };
  document.addEventListener('error', (event) => {
    if (!inField(event) || event.target.tagName !== 'IMG' || event.target.src.startsWith('data:')) return;
    event.target.dataset.undrawn = event.target.src;
    draw();
  }, true);
  watch('value', () => requestAnimationFrame(draw));

  // The example that the field shows is marked.
  let marked = '';
  watch('value', () => {
    const shown = document.querySelector('#upload img')?.src ?? '';
    const examples = document.getElementById('examples');
    if (shown === marked || !examples) return;
    marked = shown;
    for (const button of examples.querySelectorAll('button')) {
      button.setAttribute('aria-pressed', shown !== '' && button.dataset.name === examples.dataset.picked);
    }
    delete examples.dataset.picked;
  });

  // Browsers lend the camera and the clipboard only to https and to pages of their own computer.
  element.closest('.gradio-container').toggleAttribute('data-no-devices', !window.isSecureContext);
}

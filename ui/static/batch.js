// The browser sends the files one by one; the server then answers about what it stored, and again for another resize
// mode. Who chooses again does not wait for what was chosen before. `upload` is gr.HTML's, its error the server's sentence.
const zone = document.getElementById('uploads');
const tell = (text) => { zone.querySelector('.state').textContent = text; };
let latest = 0, stored = null;

async function send(files) {
  if (!files.length) return;
  const mine = ++latest, sent = [];
  if (files.length > props.most) return tell(`These are ${files.length} images: choose ${props.most} or fewer.`);
  const large = files.find((file) => file.size > props.megabytes * 2 ** 20);
  if (large) return tell(`${large.name} is too large: a file may have ${props.megabytes} MB at most.`);
  for (const file of files) {
    tell(`Sending image ${sent.length + 1} of ${files.length}`);
    try {
      const {path} = await upload(file);
      sent.push({path, orig_name: file.name});
    } catch (error) {
      const [, reason] = /^HTTP \d+: (.+)/.exec(error.message) ?? [, 'Check the connection, and try again.'];
      if (mine === latest) tell(`${file.name} could not be sent. ${reason}`);
      return;
    }
    if (mine !== latest) return;
  }
  tell('');
  stored = {id: mine, files: sent};
  ask();
}
zone.addEventListener('change', (event) => {
  if (event.target.files) send([...event.target.files]).then(() => { event.target.value = ''; });
});
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.querySelector('.zone').classList.toggle('over', name === 'dragenter' || name === 'dragover');
    if (name === 'drop') send([...event.dataTransfer.files]);
  });
}
const ask = pageAddress.follow('batch', () => {
  const fit = pageAddress.view().searchParams.get('fit');
  return stored && {asked: `${stored.id} ${encodeURIComponent(fit)}`, files: stored.files, fit};
}, {element, trigger, watch});

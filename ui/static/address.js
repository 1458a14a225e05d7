// The address of a view, for every script of the page: what is shared stands there, and nowhere else.
// In somebody else's page (<gradio-app src=...>) the address bar is not ours, and the view keeps its address to itself.
globalThis.pageAddress ??= (() => {
  let own, isRead = false;
  const followers = new Map();
  const address = {
    // The element of another page that the app is shown in, or null.
    embedded: () => document.querySelector('gradio-app:is([src], [space], [host])'),

    // Where the app is reached, without a slash at its end.
    app() {
      const theme = address.embedded() && document.querySelector('link[href*="/theme.css?"]');
      const page = theme ? new URL('.', theme.href) : window.location;
      return (page.origin + page.pathname).replace(/\/+$/, '');
    },

    // A URL to read, or to change and hand to show().
    view: () => new URL(own ?? window.location.href),

    show(url) {
      if (address.embedded()) own = url.href;
      else window.history.replaceState(window.history.state, '', url);
      for (const follow of followers.values()) follow();
    },

    // Changes some parameters: null leaves one out. Waits for start(), because gradio selects the first tab and sets
    // the first values while the page is built.
    write(parameters) {
      if (!isRead) return;
      const url = address.view();
      for (const [name, value] of Object.entries(parameters)) {
        if (value === null) url.searchParams.delete(name); else url.searchParams.set(name, value);
      }
      address.show(url);
    },

    // Once the page shows what its address says.
    start() {
      isRead = true;
      for (const follow of followers.values()) follow();
    },
    isRead: () => isRead,

    // Calls `follow` for every address from now on; of one name, the latest is called.
    follow(name, follow) {
      followers.set(name, follow);
      if (isRead) follow();
    },
  };
  return address;
})();

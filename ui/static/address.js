// The address of a view, for every script of the page: what can be shared stands there, and nowhere else.
// In somebody else's page (<gradio-app src=...>) the address bar is not ours, and the view keeps its address to itself.
globalThis.pageAddress ??= (() => {
  let own, isRead = false;
  const followers = new Map();
  const notify = (again) => followers.forEach((follower) => follower(again));

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

    // The same address again is a wish to try again.
    show(url) {
      const again = url.href === address.view().href;
      if (address.embedded()) own = url.href;
      else window.history.replaceState(window.history.state, '', url);
      notify(again);
    },

    // Until the page shows what its address says, write() does nothing: gradio selects the first tab on its own.
    isRead: () => isRead,
    start() {
      isRead = true;
      notify(true);
    },

    // Sets a parameter, or leaves out the usual value; another value ends the parameter `reset`.
    write(name, value, usual, reset) {
      const url = address.view(), written = value === usual ? null : String(value);
      if (!isRead || url.searchParams.get(name) === written) return;
      if (written === null) url.searchParams.delete(name); else url.searchParams.set(name, written);
      if (reset) url.searchParams.delete(reset);
      address.show(url);
    },

    // Lets the server draw what `wanted()` says, {asked: string, ...} or null, whenever that is not what `element`
    // shows: its HTML repeats `asked`. So what comes late does not stay. Returns a function that looks now.
    follow(name, wanted, {element, trigger, watch}) {
      let last;
      const ask = () => {
        const now = isRead ? wanted() : null;
        if (!now || now.asked === element.querySelector('[data-asked]')?.dataset.asked) return;
        last = now.asked;
        trigger('ask', now);
      };
      followers.set(name, (again) => { if (again || wanted()?.asked !== last) ask(); });
      watch('value', ask);
      ask();
      return ask;
    },
  };
  return address;
})();

"""The address of a view, in the browser.

In somebody else's page (`<gradio-app src=...>`) the view keeps it to itself: the address of that page is not ours."""

EMBEDDED = "document.querySelector('gradio-app:is([src], [space], [host])')"
"""JavaScript: the element of another page that the app is shown in, or null."""

APP = f"""(() => {{
  const theme = {EMBEDDED} && document.querySelector('link[href*="/theme.css?"]');
  const address = theme ? new URL('.', theme.href) : window.location;
  return (address.origin + address.pathname).replace(/\\/+$/, '');
}})()"""
"""JavaScript: where the app is reached, without a slash at its end."""

VIEW = "new URL(window.viewAddress ?? window.location.href)"
"""JavaScript: the address as a URL, to read, or to change and hand to SHOW."""

SHOW = f"""((url) => {{
  if ({EMBEDDED}) window.viewAddress = url.href; else window.history.replaceState(window.history.state, '', url);
}})"""
"""A JavaScript function."""


def fill(js: str) -> str:
    """`js` with these in place of $EMBEDDED, $APP, $VIEW and $SHOW."""
    for name, code in (("$EMBEDDED", EMBEDDED), ("$APP", APP), ("$VIEW", VIEW), ("$SHOW", SHOW)):
        js = js.replace(name, code)
    return js

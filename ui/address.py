"""The helpers of static/address.js, for scripts that name them by $EMBEDDED, $APP, $VIEW and $SHOW."""

from ui.render import script


def fill(js: str) -> str:
    for name, code in (("$EMBEDDED", "embedded()"), ("$APP", "app()"), ("$VIEW", "view()"), ("$SHOW", "show")):
        js = js.replace(name, f"pageAddress.{code}")
    return f"{script('address.js')}\n{js}"

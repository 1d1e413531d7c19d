"""Somebody who changes a price in the admin: with a browser's cookies and forms, and nothing else."""

from __future__ import annotations

import html
import re
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

__all__ = ["Editor"]

FIELD = re.compile(r'<input type="\w+" name="(\w+)" value="([^"]*)"')


class Editor:
    """A session in the shop's admin."""

    def __init__(self, *, url: str, name: str, password: str) -> None:
        """Log in. Raises OSError when the shop does not answer, RuntimeError when it refuses."""
        self.url = url
        self._browser = urllib.request.build_opener(
            # The shop is on this machine, whatever proxy the terminal has for the world outside.
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(CookieJar()),
        )
        self._submit("/admin/login/", {"username": name, "password": password, "next": "/admin/"})

    def change_product(self, product_id: int, *, price: str) -> None:
        """Open a product, type another price, and save."""
        self._submit(f"/admin/shop/product/{product_id}/change/", {"price": price})

    def _submit(self, path: str, typed: dict[str, str]) -> None:
        """Send a page's form: what it shows, and what was typed."""
        with self._browser.open(f"{self.url}{path}", timeout=10) as page:
            shown = {name: html.unescape(value) for name, value in FIELD.findall(page.read().decode())}
        data = urllib.parse.urlencode({**shown, **typed}).encode()
        with self._browser.open(f"{self.url}{path}", data, timeout=10) as answer:
            # A form that was taken leads elsewhere; one with mistakes is shown again.
            if urllib.parse.urlsplit(answer.url).path == path:
                raise RuntimeError(f"The form at {path} was not taken.")

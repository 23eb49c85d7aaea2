"""How the live page of serve() shows who it is: by a cookie, since its address does not contain the token."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping


class Sessions:
    """The cookie of one server, and what its page sends with a POST.

    A browser sends the cookies of a host to every port of it. So the name of the cookie contains the port:
    two servers of one host do not replace each other's. Its value is not the token, but another program on
    this host that the same browser visits gets it, too, and can ask with it until this server stops. Where
    such programs are not trusted, send the token with each request, and do not open the page. A page of
    another port counts as the same site, and SameSite=Strict does not stop it: a POST needs a header whose
    value only the page can read.
    """

    def __init__(self, port: int) -> None:
        self._name = f"perfmon-{port}"
        self._value = secrets.token_urlsafe(32)
        self._xsrf = secrets.token_urlsafe(32)

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        """Whether a request has the cookie."""
        # Not by http.cookies, which gives up at a cookie of another server that has an unusual form.
        pairs = (each.strip().partition("=") for each in headers.get("Cookie", "").split(";"))
        given = {name: value for name, _, value in pairs}
        return is_same(given.get(self._name, ""), self._value.encode())

    def is_from_page(self, headers: Mapping[str, str]) -> bool:
        """Whether a request was sent by the page, not by another page of the same browser."""
        return is_same(headers.get("X-XSRFToken", ""), self._xsrf.encode())

    def headers_of_page(self) -> dict[str, str]:
        """Return the headers of a response to the page; another page cannot read them."""
        return {"X-XSRFToken": self._xsrf}

    def headers_of_entrance(self) -> dict[str, str]:
        """Return the headers that give a browser the cookie."""
        return {"Set-Cookie": f"{self._name}={self._value}; HttpOnly; SameSite=Strict; Path=/"}


def is_same(given: str, expected: bytes) -> bool:
    """Whether a text is the secret, without telling by the time it takes how much of it is right."""
    return hmac.compare_digest(given.encode(errors="replace"), expected)

"""Who may talk to the workbench: the pages that it has served, on this machine, or with the token."""

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers

from veriserum_hf.errors import MatchError

_SHORTEST_TOKEN = 16
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """What a request must have.

    Attributes
    ----------
    host : that the server is bound to.
    token : that every request but that for the page itself must carry; empty for none, on this machine only.
    guests : whether anybody may ask, from any machine and site: everything shown is public, and nothing is kept.

    """

    host: str
    token: str
    guests: bool = False

    def __post_init__(self) -> None:
        if self.guests:
            return
        if not self.token and not self.local:
            raise MatchError(
                f"--host {self.host} can be reached by other machines; give a --token of at least {_SHORTEST_TOKEN} "
                "characters too, or leave --host out and use an SSH tunnel"
            )
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise MatchError(f"the token has {len(self.token)} characters, expected at least {_SHORTEST_TOKEN}")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def refuses_name(self, headers: Headers) -> str:
        """Why a request is refused for the name it asks for; empty where it is not.

        On this machine only its own names: a page of another site can let its name point here.
        """
        asked = _only(headers, "Host")
        known = self.guests or not self.local or urlsplit(f"//{asked}").hostname in _LOCAL_NAMES
        return "" if known else f"this server is not {asked!r}"

    def refuses(self, path: str, headers: Headers, *, socket: bool) -> str:
        """Why a request for more than the page itself is refused; empty where it is not.

        A socket must come from a page that was served here.
        """
        if self.guests:
            return ""
        if why := self.refuses_name(headers):
            return why
        if socket and urlsplit(_only(headers, "Origin")).netloc != _only(headers, "Host"):
            return "the page is of another site"
        given = parse_qs(urlsplit(path).query).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong: use the address that `veriserum match` printed"
        return ""


def _only(headers: Headers, name: str) -> str:
    """Value of a header; empty where it is missing or given twice."""
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else ""

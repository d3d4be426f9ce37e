"""The address of a hub: whether it can be one, and how it is printed."""

import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[\w:]+([.-]+[\w:]+)*\.?")


def masked(text: str) -> str:
    """Text without the user names and passwords of the addresses in it."""
    return re.sub(r"(\w://)[^\s/?#]*@", r"\1***@", text)


def endpoint_fault(endpoint: str) -> str:
    """What is wrong with the address of a hub, with the way out; empty if nothing is."""
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(_HOST.fullmatch(parts.hostname or "")) and parts.port != 0
    except ValueError:  # a port that is none, or an invalid IPv6 address
        sound = False
    if sound and not re.search(r"[\s\x00-\x1f]", endpoint):
        return ""
    return (
        f"{masked(endpoint)!r} is not the address of a hub; expected one such as https://huggingface.co. Correct or "
        "unset HF_ENDPOINT"
    )

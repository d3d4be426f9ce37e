"""Requests to the hub that outlast a bad connection, and what is said where they do not.

What passes by itself (429, 5xx, a dropped connection) is tried again, with longer and longer waits; anything else is
one `HubError` that names the way out. No message holds a token, or the signed part of an address.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from veriserum_hf.errors import HubError

RepoType = Literal["dataset", "model"]
_Result = TypeVar("_Result")
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_WAIT_S = 300.0  # that a hub may ask for
# 409 and 412: somebody, or the same request whose answer was lost, was faster. A second look tells.
_PASSING = frozenset({408, 409, 412, 423, 425, 429, 500, 502, 503, 504})


@dataclass
class Connection:
    """The hub, for one repository.

    Attributes
    ----------
    api : of huggingface_hub, with the token.
    repo_id : ``ORG/NAME``.
    repo_type : ``dataset`` or ``model``.

    """

    api: HfApi
    repo_id: str
    repo_type: RepoType
    _token: str = field(repr=False)
    _reached: bool = False

    @property
    def url(self) -> str:
        """Address of the repository's page."""
        return f"{self.api.endpoint}/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo_id}"

    def patiently(self, call: Callable[[], _Result], what: str) -> _Result:
        """Call, again where the hub fails for a moment only.

        Parameters
        ----------
        call : may be called several times.
        what : that it does, for messages, such as ``"uploading"``.

        Raises
        ------
        HubError
            If the hub refuses it, or goes on failing.

        """
        waits_s = iter(_WAITS_S)
        while True:
            try:
                result = call()
            except (httpx2.HTTPError, OfflineModeIsEnabled, RuntimeError, json.JSONDecodeError) as error:
                problem, wait_s = _within(error), next(waits_s, None)
                if wait_s is None or not self._passes(problem):
                    raise HubError(self._clean(self._message(problem, what))) from None
                time.sleep(max(wait_s, _asked_wait_s(problem)))
            except (ValueError, OSError) as error:  # invalid metadata, a file that cannot be read
                raise HubError(self._clean(f"{what} {self.repo_id} failed: {error}")) from None
            else:
                self._reached = True
                return result

    def _passes(self, problem: BaseException) -> bool:
        """Whether it may work in a moment."""
        if isinstance(problem, HfHubHTTPError):
            self._reached = True
            return problem.response.status_code in _PASSING
        if isinstance(problem, httpx2.ConnectError):
            return self._reached  # a hub that was never there is no hub that is gone for a moment
        # RuntimeError: uploads in other threads end so when one of them closes the connections that they share.
        return isinstance(problem, (httpx2.TransportError, RuntimeError, json.JSONDecodeError))

    def _message(self, problem: BaseException, what: str) -> str:
        hub = self.api.endpoint
        if isinstance(problem, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so {hub} is not asked. Unset it, then run again."
        if isinstance(problem, HfHubHTTPError):
            status, said = problem.response.status_code, problem.server_message or problem.response.reason_phrase
            if status == 401:
                return (
                    f"{hub} does not accept the token (401: {said}). Log in with `hf auth login --force`, or set "
                    "HF_TOKEN, which goes before it, to a valid one."
                )
            if status in (402, 403, 404):
                return (
                    f"{hub} does not allow {what} {self.repo_id} ({status}: {said}). Take a token with the right to "
                    "write there, or a name in a namespace of your own."
                )
            kept = " What is uploaded is kept: the same command goes on from there." if status in _PASSING else ""
            return f"{what} {self.repo_id} failed: {hub} answered {status} ({said}).{kept}"
        if isinstance(problem, httpx2.ConnectError) and not self._reached:
            return f"cannot reach {hub} ({problem}). Connect to the network, or check HF_ENDPOINT, then run again."
        return (
            f"{what} {self.repo_id} failed: the connection to {hub} broke again and again "
            f"({type(problem).__name__}: {problem}). What is uploaded is kept: the same command goes on from there."
        )

    def _clean(self, text: str) -> str:
        return re.sub(r"\?\S+=\S+", "?...", text).replace(self._token, "***")


def connect(repo_id: str, repo_type: RepoType) -> Connection:
    """Return a connection with the token that the user is logged in with.

    Raises
    ------
    HubError
        If the name has no namespace or is none, there is no token, or the hub does not accept it or is not there.

    """
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise HubError(
            f"{repo_id!r} is no name of a repository; expected a user or an organisation, a slash and a name of "
            "letters, digits, '-', '_' and '.', such as my-lab/veriserum"
        )
    token = get_token()
    if not token:
        raise HubError(
            f"there is no token for {constants.ENDPOINT}. Log in with `hf auth login`, or set HF_TOKEN; a token with "
            f"the right to write is made at {constants.ENDPOINT}/settings/tokens"
        )
    connection = Connection(HfApi(token=token), repo_id, repo_type, token)
    connection.patiently(connection.api.whoami, "writing to")
    return connection


def _within(error: BaseException) -> BaseException:
    """What an upload in a thread failed of."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _asked_wait_s(problem: BaseException) -> float:
    """How long the hub asks to wait, s."""
    asked = problem.response.headers.get("Retry-After", "") if isinstance(problem, HfHubHTTPError) else ""
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdigit() else 0.0

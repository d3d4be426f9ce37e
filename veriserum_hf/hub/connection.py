"""Requests to the hub that are retried, and the messages for those that fail.

Transient failures (429, 5xx, a dropped connection) are retried with increasing waits; any other failure is one
`HubError` that names the way out. No message holds a token, or the signed part of an address.
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

from veriserum_hf.core import endpoint_fault, masked
from veriserum_hf.errors import HubError

RepoType = Literal["dataset", "model"]
_Result = TypeVar("_Result")
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_WAIT_S = 300.0  # that a hub may request
# 409 and 412: another request, or the same one whose answer was lost, came first. A retry sees its result.
_TRANSIENT = frozenset({408, 409, 412, 423, 425, 429, 500, 502, 503, 504})

# What no hub answers, or something else at its address.
_NOT_A_HUB = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProtocolError,
    httpx2.UnsupportedProtocol,
    json.JSONDecodeError,
)


class UnreachableError(HubError):
    """There is no token, or no hub at the address: nothing is known of what is there."""


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
        """Address of the repository's page, without a password."""
        return page(self.repo_id, self.repo_type)

    def with_retries(self, call: Callable[[], _Result], what: str) -> _Result:
        """Call, and retry after a transient failure of the hub.

        Parameters
        ----------
        call : may be called several times.
        what : the action, for messages, such as ``"uploading"``.

        Raises
        ------
        HubError
            If the hub refuses it, or keeps failing.

        """
        waits_s = iter(_WAITS_S)
        while True:
            try:
                result = call()
            except (httpx2.HTTPError, OfflineModeIsEnabled, RuntimeError, json.JSONDecodeError) as error:
                problem, wait_s = _within(error), next(waits_s, None)
                if wait_s is None or not self._is_transient(problem):
                    kind = HubError if self._reached else UnreachableError
                    raise kind(self._clean(self._message(problem, what))) from None
                time.sleep(max(wait_s, _requested_wait_s(problem)))
            except (ValueError, OSError) as error:  # invalid metadata, a file that cannot be read
                raise HubError(self._clean(f"{what} {self.repo_id} failed: {error}")) from None
            else:
                self._reached = True
                return result

    def _is_transient(self, problem: BaseException) -> bool:
        """Whether a retry may succeed."""
        if isinstance(problem, HfHubHTTPError):
            self._reached = True
            return problem.response.status_code in _TRANSIENT
        if isinstance(problem, _NOT_A_HUB):
            return self._reached  # a hub that was never reached is not a transient failure
        # RuntimeError: raised in other threads when one upload closes the connections that they share.
        return isinstance(problem, (httpx2.TransportError, RuntimeError, json.JSONDecodeError))

    def _message(self, problem: BaseException, what: str) -> str:
        hub = self.api.endpoint
        if isinstance(problem, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so {hub} is not contacted. Unset it, then run again."
        if isinstance(problem, HfHubHTTPError):
            status, reason = problem.response.status_code, problem.server_message or problem.response.reason_phrase
            if status == 401:
                return (
                    f"{hub} does not accept the token (401: {reason}). Log in with `hf auth login --force`, or set "
                    "HF_TOKEN, which takes precedence, to a valid one."
                )
            if status in (402, 403, 404):
                return (
                    f"{hub} does not allow {what} {self.repo_id} ({status}: {reason}). Use a token with write "
                    "access there, or a repository in your own namespace."
                )
            kept = " Uploaded files are kept; run the same command again to resume." if status in _TRANSIENT else ""
            return f"{what} {self.repo_id} failed: {hub} answered {status} ({reason}).{kept}"
        if isinstance(problem, _NOT_A_HUB) and not self._reached:
            return f"cannot reach {hub} ({problem}). Connect to the network, or check HF_ENDPOINT, then run again."
        return (
            f"{what} {self.repo_id} failed: the connection to {hub} failed repeatedly "
            f"({type(problem).__name__}: {problem}). Uploaded files are kept; run the same command again to resume."
        )

    def _clean(self, text: str) -> str:
        return masked(re.sub(r"\?\S+=\S+", "?...", text).replace(self._token, "***"))


def page(repo_id: str, repo_type: RepoType) -> str:
    """Address of a repository's page, without a password."""
    return f"{masked(constants.ENDPOINT)}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"


def connect(repo_id: str, repo_type: RepoType) -> Connection:
    """Return a connection with the token that the user is logged in with.

    Raises
    ------
    HubError
        If the name is invalid or has no namespace, the hub has no valid address, or it refuses the token;
        UnreachableError if there is no token, or no hub answers.

    """
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise HubError(
            f"{repo_id!r} is not a valid repository name; expected a user or an organisation, a slash and a name of "
            "letters, digits, '-', '_' and '.', such as my-lab/veriserum"
        )
    if fault := endpoint_fault(constants.ENDPOINT):
        raise HubError(fault)
    token = get_token()
    if not token:
        hub = masked(constants.ENDPOINT)
        raise UnreachableError(
            f"there is no token for {hub}. Log in with `hf auth login`, or set HF_TOKEN; a token with write access "
            f"is created at {hub}/settings/tokens"
        )
    connection = Connection(HfApi(token=token), repo_id, repo_type, token)
    connection.with_retries(connection.api.whoami, "writing to")
    return connection


def _within(error: BaseException) -> BaseException:
    """The cause of a failed upload in a thread."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _requested_wait_s(problem: BaseException) -> float:
    """Wait that the hub requests, s."""
    requested = problem.response.headers.get("Retry-After", "") if isinstance(problem, HfHubHTTPError) else ""
    return min(float(requested), _LONGEST_WAIT_S) if requested.isdigit() else 0.0

"""A connection retries transient failures, reports others, and no message holds a secret."""

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from tests.hub.access import TOKEN
from tests.hub.faults import Fault
from veriserum_hf.core import masked
from veriserum_hf.errors import HubError
from veriserum_hf.hub.connection import _WAITS_S, connect, page

NAME = "my-lab/things"


class Failing:
    """A call that fails with each of some errors in sequence, then answers, or repeats the last error."""

    def __init__(self, *errors, answers=True):
        self.errors, self.answers, self.calls = list(errors), answers, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= len(self.errors):
            raise self.errors[self.calls - 1]
        if not self.answers:
            raise self.errors[-1]
        return "done"


def answered(status, message="busy", **headers):
    request = httpx2.Request("POST", "https://hub.example/api")
    response = httpx2.Response(status, headers={"X-Error-Message": message} | headers, request=request)
    return HfHubHTTPError(message, response=response, server_message=message)


@pytest.fixture
def waits_s(monkeypatch):
    """How long it waited, instead of doing so."""
    waited = []
    monkeypatch.setattr("veriserum_hf.hub.connection.time.sleep", waited.append)
    return waited


@pytest.fixture
def connection(online):
    return connect(NAME, "dataset")


def uploading(connection, call):
    return connection.with_retries(call, "uploading to")


@pytest.mark.parametrize(
    "error",
    [
        *(answered(status) for status in (408, 409, 412, 423, 425, 429, 500, 502, 503, 504)),
        httpx2.ReadError("reset"),
        httpx2.ConnectError("refused"),  # by a hub that was there a moment ago
        httpx2.ReadTimeout("slow"),
        RuntimeError("the client has been closed"),
    ],
    ids=lambda error: str(getattr(getattr(error, "response", None), "status_code", type(error).__name__)),
)
def test_what_passes_is_tried_again_with_longer_and_longer_waits(connection, waits_s, error):
    call = Failing(error, error, error)
    assert uploading(connection, call) == "done"
    assert call.calls == 4 and waits_s == list(_WAITS_S[:3]) == sorted(waits_s)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 501])
def test_what_does_not_pass_is_not_tried_again(connection, waits_s, status):
    call = Failing(answered(status, "no"))
    with pytest.raises(HubError, match=rf"\({status}: no\)|answered {status} \(no\)\.$"):
        uploading(connection, call)
    assert call.calls == 1 and waits_s == []


def test_a_hub_that_keeps_failing_is_given_up(connection, waits_s):
    call = Failing(answered(503), answers=False)
    with pytest.raises(
        HubError, match=r"answered 503 \(busy\)\. Uploaded files are kept; run the same command again"
    ):
        uploading(connection, call)
    assert call.calls == 1 + len(_WAITS_S) and waits_s == list(_WAITS_S)


@pytest.mark.parametrize(
    ("requested", "waited_s"),
    [("7", 7.0), ("0", 1.0), ("86400", 300.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0), ("-5", 1.0)],
)
def test_the_wait_that_the_hub_requests_is_limited(connection, waits_s, requested, waited_s):
    assert uploading(connection, Failing(answered(429, **{"Retry-After": requested}))) == "done"
    assert waits_s == [waited_s]


def test_the_cause_of_an_upload_that_failed_in_a_thread_counts(connection, waits_s):
    def of_thread(cause):
        error = RuntimeError("Error while uploading 'part-01.parquet' to the Hub.")
        error.__cause__ = cause
        return error

    assert uploading(connection, Failing(of_thread(of_thread(answered(500))))) == "done"
    with pytest.raises(HubError, match=r"does not allow uploading to my-lab/things \(403: not yours\)"):
        uploading(connection, Failing(of_thread(answered(403, "not yours"))))
    assert waits_s == [1.0]


def test_neither_the_token_nor_a_signed_address_is_in_a_message(connection, waits_s):
    message = f"{TOKEN} may not PUT https://hub.example/_lfs/7?X-Amz-Signature=0a1b2c&partNumber=1 today"
    for error in (
        answered(400, message),
        answered(403, message),
        ValueError(message),
        OSError(message),
        httpx2.ReadError(message),
    ):
        with pytest.raises(HubError) as raised:
            uploading(connection, Failing(error, answers=False))
        assert "*** may not PUT https://hub.example/_lfs/7?... today" in str(raised.value)
        assert TOKEN not in str(raised.value) and "0a1b2c" not in str(raised.value)
        assert raised.value.__cause__ is None and raised.value.__suppress_context__
    assert TOKEN not in repr(connection)


def test_a_file_that_cannot_be_read_is_no_matter_of_the_hub(connection, waits_s):
    call = Failing(FileNotFoundError(2, "No such file or directory", "part-01.parquet"))
    with pytest.raises(HubError, match=r"uploading to my-lab/things failed: .*part-01\.parquet"):
        uploading(connection, call)
    assert call.calls == 1


def test_a_mistake_of_the_program_is_not_hidden(connection, waits_s):
    with pytest.raises(ZeroDivisionError):
        uploading(connection, Failing(ZeroDivisionError()))


def test_offline_mode_is_reported(connection, waits_s):
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set, so http.* is not contacted\. Unset it"):
        uploading(connection, Failing(OfflineModeIsEnabled("offline")))
    assert waits_s == []


def test_a_hub_that_was_never_there_is_not_waited_for(online, waits_s, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot reach http://127\.0\.0\.1:9 \(.+\)\. Connect to the network, or"):
        connect(NAME, "dataset")
    assert waits_s == []


@pytest.mark.parametrize("name", ["things", "a/b/c", "my-lab/", "my lab/things", "my-lab/things?", ""])
def test_an_invalid_name_is_refused_before_any_request(online, name):
    before = len(online.requests())
    with pytest.raises(
        HubError, match="is not a valid repository name; expected a user or an organisation, a slash and"
    ):
        connect(name, "model")
    assert len(online.requests()) == before


@pytest.mark.parametrize(
    "endpoint",
    [
        "nonsense",
        "ftp://hub.example",
        "http://",
        "http://:80",
        "https://hub example",
        "http://hub.example:99999",
        "//x",
    ],
)
def test_what_is_no_address_of_a_hub_is_refused_at_once(online, waits_s, monkeypatch, endpoint):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(HubError, match=r"is not the address of a hub; expected one such as https://huggingface\.co"):
        connect(NAME, "dataset")
    assert waits_s == []


@pytest.mark.parametrize(
    "error", [httpx2.ConnectTimeout("slow"), httpx2.UnsupportedProtocol("x"), httpx2.RemoteProtocolError("SSH-2.0")]
)
def test_what_is_no_hub_is_not_waited_for(online, waits_s, monkeypatch, error):
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", Failing(error, answers=False))
    with pytest.raises(HubError, match=r"cannot reach http.*\. Connect to the network, or check HF_ENDPOINT"):
        connect(NAME, "dataset")
    assert waits_s == []


@pytest.mark.parametrize("endpoint", ["http://user:pass%40word@127.0.0.1:9", "http://pass%40word@127.0.0.1:9"])
def test_a_password_in_the_address_is_in_no_message(online, waits_s, monkeypatch, endpoint):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(HubError, match=r"cannot reach http://\*\*\*@127\.0\.0\.1:9 ") as raised:
        connect(NAME, "dataset")
    assert "pass" not in str(raised.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        HubError, match=r"no token for http://\*\*\*@127\.0\.0\.1:9\. .* at http://\*\*\*@127"
    ) as raised:
        connect(NAME, "dataset")
    assert "pass" not in str(raised.value) + page(NAME, "dataset")
    for text in (f"GET {endpoint}/api failed", f"({endpoint})", f"'{endpoint}/a@b'"):
        assert "pass" not in masked(text) and "***@127.0.0.1:9" in masked(text)
    assert masked("write to a@b.org, see https://x.org/@y") == "write to a@b.org, see https://x.org/@y"


def test_without_a_token_or_with_a_wrong_one_the_message_is_how_to_log_in(online, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_aTokenOfSomebodyElse")
    with pytest.raises(HubError, match=r"does not accept the token \(401: .+\)\. Log in with `hf auth login --"):
        connect(NAME, "dataset")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"there is no token for http.*\. Log in with `hf auth login`, or set"):
        connect(NAME, "dataset")


def test_a_hub_that_is_busy_at_first_is_tried_again(online, waits_s):
    online.fail(Fault("whoami", how=("429", "500"), times=2))
    connection = connect(NAME, "dataset")
    assert connection.url == f"{online.url}/datasets/{NAME}" and waits_s
    assert [request["fault"] for request in online.requests()] == ["429", "500", None]
    assert connect(NAME, "model").url == f"{online.url}/{NAME}"

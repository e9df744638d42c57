# SPDX-License-Identifier: Apache-2.0
"""One method per endpoint of the cloudHPC API v2: the only place that speaks to the API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCValueError,
)
from airflow_provider_cloudhpc.api.models import (
    LaunchRequest,
    Quota,
    Simulation,
    StopSignal,
    StorageItem,
    to_int,
    to_text,
)
from airflow_provider_cloudhpc.api.wire.answers import read_answer
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions, check_address, new_session
from airflow_provider_cloudhpc.api.wire.output import MAX_TRANSFER, read_record
from airflow_provider_cloudhpc.api.wire.sending import Resend, retrying, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The service itself.
DEFAULT_URL = "https://cloud.cfdfeaservice.it/api/v2"
API_PATH = "/api/v2"


class _ApiKey(AuthBase):
    """Put the key on requests to the API's own host, and on no other."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._api_key = api_key
        # As requests writes it: it may spell the host in another way than the user did.
        self._origin = _origin(requests.Request("GET", base_url).prepare().url or "")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url or "") == self._origin:
            request.headers["X-API-key"] = self._api_key
        return request

    def __repr__(self) -> str:
        return "_ApiKey(***)"

    def hide(self, text: str) -> str:
        """Take the key out of a text of others, who may echo it."""
        return text.replace(self._api_key, "***").replace(quote(self._api_key, safe=""), "***")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class CloudHPCClient:
    """
    The cloudHPC API v2, one method per endpoint, on one session.

    Reads, stops and deletes by id are sent again after a lost connection, a 5xx or a 429, with backoff and jitter;
    :meth:`add_simulation` only where no byte of it can have left. Every method raises
    :class:`~airflow_provider_cloudhpc.api.errors.CloudHPCError` or one of its kinds.

    :param api_key: the account's API key
    :param base_url: address of the API, with its path
    :param network: timeouts, proxies, CA bundle
    :param max_attempts: how often a call that may be sent again is sent at the most
    :param max_pause: longest pause between two attempts, seconds; a longer ``Retry-After`` ends the attempts
    :raises CloudHPCValueError: for an empty or impossible key, or an address that would send it in the clear
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_URL,
        *,
        network: NetworkOptions | None = None,
        max_attempts: int = 4,
        max_pause: float = 30.0,
    ) -> None:
        self.network = network or NetworkOptions()
        if not api_key or not api_key.isascii() or not api_key.isprintable() or api_key != api_key.strip():
            raise CloudHPCValueError(
                "The API key is empty or holds characters that no key has (white space, line ends, non-ASCII). "
                "It is the password of the connection; you find it on your cloudHPC profile page."
            )
        check_address(base_url, allow_http=self.network.allow_http, what="The API's address")
        if urlsplit(base_url).query or urlsplit(base_url).fragment:
            raise CloudHPCValueError("The API's address holds a query or a fragment, which it must not.")
        self.base_url = base_url.rstrip("/")
        #: The last counters that an answer told, and when (``time.monotonic()``, seconds).
        self.quota: Quota | None = None
        self.quota_seen: float | None = None
        self._max_attempts = max(1, max_attempts)
        self._max_pause = max_pause
        self._auth = _ApiKey(api_key, self.base_url)
        self._session = self._new_session()

    def __repr__(self) -> str:
        return f"CloudHPCClient({self.base_url!r})"

    def __enter__(self) -> CloudHPCClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

    def _new_session(self) -> requests.Session:
        session = new_session(self._auth)
        session.headers["Accept"] = "application/json"
        return session

    def simulation_page(self, simulation_id: int) -> str:
        """Give the address of a simulation's web page."""
        site = self.base_url.removesuffix(API_PATH)
        return f"{site}/en/simulation/view/{simulation_id}"

    # -- simulations -----------------------------------------------------------------------------------------

    def view_cpu(self) -> list[int]:
        """List the vCPU counts on offer: ``GET /simulation/view-cpu``."""
        numbers = [to_int(value) for value in self._list("/simulation/view-cpu")]
        return [number for number in numbers if number is not None]

    def view_ram(self) -> list[str]:
        """List the RAM tiers on offer: ``GET /simulation/view-ram``."""
        return [to_text(value) for value in self._list("/simulation/view-ram")]

    def view_scripts(self) -> list[str]:
        """List the solvers on offer: ``GET /simulation/view-scripts``."""
        return [to_text(value) for value in self._list("/simulation/view-scripts")]

    def add_simulation(self, request: LaunchRequest) -> int:
        """
        Start a simulation and the bill: ``POST /simulation/add``.

        Never sent again once a byte of it may have left: there is no idempotency key, and two posts are two bills.

        :return: the new simulation's id
        :raises CloudHPCConnectionError: with ``sent=True``: it may or may not have been started
        :raises CloudHPCAnswerError: the answer holds no id: it may or may not have been started
        """
        endpoint = "/simulation/add"
        answer = self._call("POST", endpoint, json=request.to_json(), resend=Resend.UNSENT_ONLY)
        if isinstance(answer, dict):
            answer = answer.get("id")
        identifier = None if isinstance(answer, bool) else to_int(answer)
        if identifier is None or identifier <= 0:
            raise CloudHPCAnswerError(
                "The launch was answered without a simulation id: it may or may not have been started.",
                status=200,
                method="POST",
                endpoint=endpoint,
            )
        return identifier

    def view_simulation_short(self, simulation_id: int) -> Simulation:
        """Look at one simulation, without its output: ``GET /simulation/view-short/{id}``."""
        return self._simulation("/simulation/view-short/{id}", simulation_id)

    def view_simulation(
        self, simulation_id: int, *, max_bytes: int | None = None, to_the_end: bool = True
    ) -> Simulation:
        """
        Look at one simulation with its output: ``GET /simulation/view/{id}``.

        :param max_bytes: bytes of the output that are kept at the most; of a longer one the record's ``output`` is the
            beginning, ``output_tail`` the end, and ``output_is_whole`` is False
        :param to_the_end: False: no more than ``max_bytes`` of the answer are read at all; of a longer one what the
            record holds behind that is missing, its status perhaps
        """
        return self._simulation("/simulation/view/{id}", simulation_id, max_bytes, to_the_end)

    def list_simulations(self, page: int = 1, *, sort: str = "id", descending: bool = True) -> list[Simulation]:
        """
        List a page of simulations: ``GET /simulation/index-short/{sort}/{asc,desc}/{page}``.

        :param page: from 1 on; a page past the end is empty, or repeats the last one
        :param sort: any field of the record; ``edate`` ascending brings the active ones first
        """
        order = "desc" if descending else "asc"
        records = self._list("/simulation/index-short/{sort}/{order}/{page}", sort=sort, order=order, page=page)
        return _readable(Simulation.from_api(record) for record in records if isinstance(record, dict))

    def stop_simulation(self, simulation_id: int, signal: StopSignal) -> None:
        """
        Stop a simulation: ``PUT /simulation/stop/{id}``.

        The answer says that the signal was taken, not that the run is over.
        """
        self._call("PUT", "/simulation/stop/{id}", json={"signal": StopSignal(signal).value}, id=simulation_id)

    def sync_simulation(self, simulation_id: int) -> None:
        """Ask a running simulation to upload its results so far: ``PUT /simulation/sync/{id}``."""
        self._call("PUT", "/simulation/sync/{id}", id=simulation_id)

    # -- storage ---------------------------------------------------------------------------------------------

    def upload_url(self, dirname: str, filename: str, content_type: str = "application/octet-stream") -> str:
        """
        Ask where to put a file: ``POST /storage/upload-url``.

        :param dirname: storage folder, empty for the storage's root
        :return: a signed URL: a credential, and short-lived
        """
        endpoint = "/storage/upload-url"
        body = {"dirname": dirname, "filename": filename, "contentType": content_type}
        return self._url(self._call("POST", endpoint, json=body), "POST", endpoint)

    def delete_cache(self) -> None:
        """Make the storage's listings see what was uploaded: ``DELETE /user/delete-cache``."""
        self._call("DELETE", "/user/delete-cache")

    def view_by_path(self, path: str) -> StorageItem:
        """
        Look up a file or folder by its path: ``POST /storage/view-by-path``.

        :raises CloudHPCNotFoundError: there is none
        """
        endpoint = "/storage/view-by-path"
        answer = self._call("POST", endpoint, json={"path": path})
        record = answer[0] if isinstance(answer, list) and answer else answer
        item = StorageItem.from_api(record) if isinstance(record, dict) else None
        if item is None:
            raise CloudHPCNotFoundError(f"The storage has no {path!r}.", status=200, method="POST", endpoint=endpoint)
        return item

    def list_root(self, page: int = 1, *, sort: str = "name", descending: bool = False) -> list[StorageItem]:
        """List a page of the storage's root: ``GET /storage/index/{sort}/{asc,desc}/{page}``."""
        order = "desc" if descending else "asc"
        return _items(self._list("/storage/index/{sort}/{order}/{page}", sort=sort, order=order, page=page))

    def list_folder(
        self, folder_id: str, page: int = 1, *, sort: str = "name", descending: bool = False
    ) -> list[StorageItem]:
        """List a page of a folder: ``GET /storage/index/{sort}/{asc,desc}/parent_id/{id}/{page}``."""
        order = "desc" if descending else "asc"
        endpoint = "/storage/index/{sort}/{order}/parent_id/{id}/{page}"
        return _items(self._list(endpoint, sort=sort, order=order, id=folder_id, page=page))

    def download_url(self, item_id: str) -> str:
        """
        Ask where to get a file: ``GET /storage/download/{id}``, else ``GET /storage/view-url/{id}``.

        The first answers in several shapes (a string, ``url``, ``mediaLink``, a redirect); where it gives nothing
        usable the second is asked, which may need some seconds before it has the link.

        :return: a signed URL: a credential, and short-lived
        """
        try:
            endpoint = "/storage/download/{id}"
            return self._url(self._call("GET", endpoint, id=item_id, location=True), "GET", endpoint)
        except CloudHPCAnswerError as error:
            if error.transient:
                raise
        return self.view_url(item_id)

    def view_url(self, item_id: str, *, attempts: int = 5, pause: float = 2.0) -> str:
        """
        Ask for a file's media link: ``GET /storage/view-url/{id}``.

        :param attempts: how often to ask at the most while the link is empty
        :param pause: seconds between two of them
        :raises CloudHPCAnswerError: the link stayed empty
        """
        endpoint = "/storage/view-url/{id}"
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause)
            answer = self._call("GET", endpoint, id=item_id)
            if _find_url(answer):
                return self._url(answer, "GET", endpoint)
        raise CloudHPCAnswerError(
            f"The service gave no download link for this file in {attempts} tries; try again in a minute.",
            transient=True,
            status=200,
            method="GET",
            endpoint=endpoint,
        )

    def delete_item(self, item_id: str) -> None:
        """Delete a file, or a folder with all in it, for good: ``DELETE /storage/delete/{id}``."""
        self._call("DELETE", "/storage/delete/{id}", id=item_id)

    # -- one call --------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        endpoint: str,
        *,
        json: Mapping[str, Any] | None = None,
        resend: Resend = Resend.SAFE,
        location: bool = False,
        max_bytes: int | None = None,
        to_the_end: bool = True,
        **path: object,
    ) -> Any:
        """
        Make a call and give the value of its answer.

        :param endpoint: template; ``path`` fills it
        :param resend: when the call may be sent again
        :param location: a redirect's target is the answer; it is not followed
        :param max_bytes: bytes that are kept of an answer that is a record with an output
        :param to_the_end: whether more of it than these bytes is read
        """
        for name, value in path.items():
            if str(value).strip() in ("", ".", ".."):
                raise CloudHPCValueError(f"{name} is {value!r}: the call {method} {endpoint} needs one.")
        url = self.base_url + endpoint.format(**{key: quote(str(value), safe="") for key, value in path.items()})
        options = {**self.network.request_options(), "json": json, "stream": max_bytes is not None}
        may_be_done = False

        def once() -> Any:
            nonlocal may_be_done
            try:
                response = self._send(method, url, options, endpoint, resend)
                quota = Quota.from_headers(response.headers)
                if quota is not None:
                    self.quota, self.quota_seen = quota, time.monotonic()
                if max_bytes is not None:
                    most = MAX_TRANSFER if to_the_end else max_bytes
                    body = read_record(response, max_bytes, method, endpoint, most=most)
                    if isinstance(body, dict) and response.ok:
                        return body
                    # What requests itself does when it reads a body.
                    response._content = b"" if isinstance(body, dict) else body
                    del body
                return read_answer(response, method, endpoint, quota, location=location, clean=self._auth.hide)
            except CloudHPCNotFoundError:
                if method == "DELETE" and may_be_done:
                    return None  # the attempt whose answer was lost has deleted it
                raise
            except CloudHPCError as error:
                refused = isinstance(error, CloudHPCQuotaError)
                may_be_done = may_be_done or (getattr(error, "sent", True) and not refused)
                raise

        return retrying(once, resend, max_attempts=self._max_attempts, max_pause=self._max_pause)

    def _send(
        self, method: str, url: str, options: Mapping[str, Any], endpoint: str, resend: Resend
    ) -> requests.Response:
        if resend is Resend.SAFE:
            return send(self._session, method, url, options, endpoint)
        # A kept connection may have died unnoticed, which shows only when the request is on its way.
        with self._new_session() as fresh:
            return send(fresh, method, url, options, endpoint)

    def _list(self, endpoint: str, **path: Any) -> list[Any]:
        answer = self._call("GET", endpoint, **path)
        if answer is None:
            return []
        if not isinstance(answer, list):
            raise CloudHPCAnswerError("The answer is not a list.", status=200, method="GET", endpoint=endpoint)
        return answer

    def _simulation(
        self, endpoint: str, simulation_id: int, max_bytes: int | None = None, to_the_end: bool = True
    ) -> Simulation:
        record = self._call("GET", endpoint, id=simulation_id, max_bytes=max_bytes, to_the_end=to_the_end)
        if isinstance(record, dict) and record.get("output_is_whole") is False:
            record.setdefault("id", simulation_id)  # it may stand behind what was read
        if isinstance(record, list) and len(record) == 1:
            record = record[0]
        simulation = Simulation.from_api(record) if isinstance(record, dict) else None
        if simulation is None or simulation.id != simulation_id:
            raise CloudHPCAnswerError(
                f"The answer is not the record of simulation {simulation_id}.",
                status=200,
                method="GET",
                endpoint=endpoint,
            )
        return simulation

    def _url(self, answer: object, method: str, endpoint: str) -> str:
        url = _find_url(answer)
        if not url:
            raise CloudHPCAnswerError("The answer holds no link.", status=200, method=method, endpoint=endpoint)
        check_address(url, allow_http=self.network.allow_http, what="The link for the file's bytes")
        return url


def _find_url(answer: object) -> str:
    """Find the link in any of the shapes it comes in; "" where there is none."""
    if isinstance(answer, dict):
        answer = answer.get("url") or answer.get("mediaLink")
    text = to_text(answer).strip()
    return text if text.startswith(("https://", "http://")) else ""


def _readable(values: Iterable[Simulation | None]) -> list[Simulation]:
    return [value for value in values if value is not None]


def _items(records: list[Any]) -> list[StorageItem]:
    items = (StorageItem.from_api(record) for record in records if isinstance(record, dict))
    return [item for item in items if item is not None]

"""What is asked of HubSpot, by its own client; and what each of its refusals means for us (HubSpot docs, errors)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partialmethod
from typing import Any, NoReturn

import requests

from dialer import GiveUp, RetryLater, Secret
from dialer_plugins import crm
from dialer_plugins.waiting import seconds_asked

#: Seconds to connect, and between two bytes of an answer: HubSpot's client itself would wait for ever.
TIMEOUT = (5, 15)
#: Seconds to wait where HubSpot does not say: it is too fast, the day's requests are used up.
SOON, MUCH_LATER = 10.0, 3600.0
#: The kind of the link from a call to its contact (HubSpot docs, associations).
CALL_TO_CONTACT = 194
MOST_CONTACTS = 100


class NotThere(RetryLater):
    """HubSpot has no such record."""


class Portal:
    """One HubSpot account. Everything raises RetryLater or GiveUp."""

    def __init__(self, token: Secret, clock: Callable[[], float]) -> None:
        self._token = token
        self._sender = Sender(clock)

    def find_contact(self, contact: str) -> str:
        """The id of a contact, another one if it was merged into that; raises NotThere."""
        from hubspot.crm import contacts

        found = self._api(contacts).BasicApi.get_by_id(contact, properties=["phone"], archived=False)
        return str(found.id)

    def contacts_with(self, number: str) -> list[tuple[str, list[str]]]:
        """Contacts that may have this number (E.164), with the numbers they have."""
        from hubspot.crm import contacts

        forms, own = crm.written_forms(number), crm.own_digits(number)
        filters: list[dict[str, Any]] = [
            {"propertyName": name, "operator": "IN", "values": forms} for name in ("phone", "mobilephone")
        ]
        for name in ("hs_searchable_calculated_phone_number", "hs_searchable_calculated_mobile_number"):
            filters.append({"propertyName": name, "operator": "EQ", "value": own})
        found = self._api(contacts).SearchApi.do_search(
            {
                "filterGroups": [{"filters": [one]} for one in filters],  # any of them
                "properties": ["phone", "mobilephone"],
                "limit": MOST_CONTACTS,
            }
        )
        return [
            (str(one.id), [text for text in map(one.properties.get, ("phone", "mobilephone")) if text])
            for one in found.results
        ]

    def find_call(self, external_id: str) -> str:
        """The engagement that was made for a call without our hearing of it; empty if there is none."""
        from hubspot.crm.objects import calls

        one = {"propertyName": "hs_call_external_id", "operator": "EQ", "value": external_id}
        found = self._api(calls).SearchApi.do_search(
            {"filterGroups": [{"filters": [one]}], "properties": ["hs_call_external_id"], "limit": 1}
        )
        return str(found.results[0].id) if found.results else ""

    def create_call(self, properties: Mapping[str, str], contact: str) -> str:
        """Make an engagement, on a contact if there is one; gives its id."""
        from hubspot.crm.objects import calls

        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": CALL_TO_CONTACT}
        associations = [{"to": {"id": contact}, "types": [kind]}] if contact else []
        body = {"properties": dict(properties), "associations": associations}
        return str(self._api(calls).BasicApi.create(body).id)

    def update_call(self, engagement: str, properties: Mapping[str, str]) -> None:
        """Bring an engagement up to date; raises NotThere."""
        from hubspot.crm.objects import calls

        self._api(calls).BasicApi.update(engagement, {"properties": dict(properties)})

    def _api(self, package: Any) -> _Apis:
        return _Apis(package, self._token.reveal(), self._sender)


class _Apis:
    """The classes of one package of HubSpot's client, made to send through our sender."""

    def __init__(self, package: Any, token: str, sender: Sender) -> None:
        self._package = package
        configuration = package.Configuration()
        configuration.access_token = token
        self._client = package.ApiClient(configuration=configuration)
        self._client.rest_client = sender

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)(api_client=self._client)


class Received:
    """An answer in the shape in which HubSpot's client reads it."""

    def __init__(self, answer: requests.Response) -> None:
        self.status, self.reason = answer.status_code, answer.reason
        self.data: Any = answer.content
        self._headers = answer.headers

    def getheaders(self) -> Mapping[str, str]:
        return self._headers

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return self._headers.get(name, default)


class Sender:
    """Takes the place of the lowest layer of HubSpot's client: with time-outs, without redirects and repetitions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def request(
        self,
        method: str,
        url: str,
        query_params: Any = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
        post_params: Any = None,
        _preload_content: bool = True,
        _request_timeout: Any = None,
    ) -> Received:
        data = None if body is None else json.dumps(body)
        try:
            answer = requests.request(
                method, url, params=query_params, headers=headers, data=data, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.Timeout:
            raise RetryLater(0, f"HubSpot did not answer within {TIMEOUT[1]} s") from None
        except requests.RequestException as error:
            raise RetryLater(0, f"HubSpot cannot be reached: {type(error).__name__}") from None
        if not 200 <= answer.status_code < 300:
            refuse(answer, self._clock())
        return Received(answer)

    GET = partialmethod(request, "GET")
    POST = partialmethod(request, "POST")
    PATCH = partialmethod(request, "PATCH")


def refuse(answer: requests.Response, now: float) -> NoReturn:
    """Raise what an answer means: not there, later, or never."""
    status, said = answer.status_code, _said(answer)
    asked = min(seconds_asked(answer.headers.get("Retry-After"), now), 86_400.0)
    if status == 404:
        raise NotThere(0, f"HubSpot has no such record: {said}")
    if status == 401:
        raise GiveUp(
            "HubSpot does not take the access token (401): copy that of the private app (Settings, Integrations) into "
            "[plugins.hubspot] access_token, then: dialer deliveries replay --plugin hubspot"
        )
    if status == 403:
        raise GiveUp(f"HubSpot forbids it (403): give the private app the scopes of the README; it says: {said}")
    if status == 429:
        raise RetryLater(asked or (MUCH_LATER if _policy(answer) == "DAILY" else SOON), f"over HubSpot's limit: {said}")
    if status in (409, 423, 477) or status >= 500:
        raise RetryLater(asked, f"HubSpot answered {status}: {said}")
    raise GiveUp(f"HubSpot refuses it ({status}): {said}")


def _said(answer: requests.Response) -> str:
    return str(_body(answer).get("message") or answer.reason or "no reason")[:300]


def _policy(answer: requests.Response) -> str:
    return str(_body(answer).get("policyName") or "").upper()


def _body(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}

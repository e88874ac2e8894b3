"""The token: how clients send it, the cookie that stands for it in browsers, and what wrong ones cost."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from engine.errors import UsageError

logger = logging.getLogger("kinograph")

LEAST_LENGTH = 16
"""Characters of a token for a server that other machines can reach."""
FREE_TRIES = 5
"""Wrong tokens from one address that cost nothing; each is forgotten after `TRY_SECONDS`."""
TRY_SECONDS = 1.0
"""How long every further token from that address takes."""
MOST_WAITING = 30
"""Requests of one address that wait for their token to be looked at."""
MOST_ADDRESSES = 10_000


def check_length(token: str) -> None:
    """Raise UsageError unless a token is long enough for a server that other machines can reach."""
    if len(token) < LEAST_LENGTH:
        raise UsageError(
            f"this token of {len(token)} characters could be guessed; {LEAST_LENGTH} are needed where others can try",
            hint='make one with python -c "import secrets; print(secrets.token_urlsafe())"',
        )


class Tokens:
    """Tells requests that carry the server's token from those that don't.

    A token is compared at once as long as few wrong ones came from the same address. Otherwise each takes its turn,
    right or wrong, so that guessing isn't faster over many connections. Browsers, which send the cookie, never wait.

    Args:
        token: the server's token; not "".
        now: seconds since any point in time.
    """

    def __init__(self, token: str, now: Callable[[], float] | None = None) -> None:
        self._token = token.encode(errors="surrogateescape")
        # it mustn't tell the token, which may be short: trying one takes 16 MB and some 50 ms
        self.cookie = hashlib.scrypt(self._token, salt=b"kinograph's cookie", n=1 << 14, r=8, p=1, dklen=32).hex()
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._debts: OrderedDict[str, float] = OrderedDict()
        """By address, the time at which all its tokens so far will have taken their turns."""

    async def carried_by(self, request: web.Request) -> bool:
        """Whether a request carries the token, in a header or on the first visit in the address, or the cookie.

        Raises:
            HTTPTooManyRequests: too many others from its address wait for the answer.
        """
        if _equal(_bytes(request.cookies.get(cookie_name(request), "")), self.cookie.encode()):
            return True
        sent = _sent(request)
        if not sent:
            return False
        address = _network(request.remote or "")
        waited = await self._turn(address)
        if any(_equal(each, self._token) for each in sent):
            self._debts[address] = self._debts.get(address, 0.0) - waited
            return True
        if not waited:
            self._owe(address)
        logger.warning("a wrong token came from %s", request.remote)
        return False

    async def _turn(self, address: str) -> float:
        """Wait for the turn of a token from an address; returns the seconds that its turn takes, 0 if it is free."""
        wait = self._debts.get(address, 0.0) - self._now() - FREE_TRIES * TRY_SECONDS
        if wait <= 0:
            return 0.0
        if wait > MOST_WAITING * TRY_SECONDS:
            message = "too many tokens come from this address; try again later"
            raise web.HTTPTooManyRequests(text=message, headers={"Retry-After": str(int(wait))})
        self._owe(address)
        await asyncio.sleep(wait)
        return TRY_SECONDS

    def _owe(self, address: str) -> None:
        """Add the turn of one more token to those from an address."""
        self._debts[address] = max(self._debts.pop(address, 0.0), self._now()) + TRY_SECONDS
        while len(self._debts) > MOST_ADDRESSES:
            self._debts.popitem(last=False)


def cookie_name(request: web.BaseRequest) -> str:
    """The name of the cookie: browsers send it to all ports of a host, where other servers may be."""
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return f"kinograph_{own[1]}" if own else "kinograph"


def _sent(request: web.Request) -> list[bytes]:
    """The tokens that a request carries: as bearer, as the password of any user, and on the first visit."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    sent = []
    if scheme.lower() == "bearer":
        sent.append(_bytes(text.strip()))
    elif scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(_bytes(text.strip()), validate=True)
        except binascii.Error:
            decoded = b""
        password = decoded.partition(b":")[2]
        sent += [password, password.decode("latin-1").encode()]  # clients differ in how they encode it
    if request.path == "/" and "token" in request.query:
        sent.append(_bytes(request.query["token"]))
    return list(filter(None, sent))


def _bytes(text: str) -> bytes:
    """The bytes that were sent, even if they aren't valid UTF-8."""
    return text.encode(errors="surrogateescape")


def _equal(some: bytes, other: bytes) -> bool:
    return hmac.compare_digest(some, other)


def _network(address: str) -> str:
    """What stands for an address: with IPv6 a site has 2⁶⁴ of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


TOKENS = web.AppKey[Tokens | None]("tokens")
"""None if no token is required."""

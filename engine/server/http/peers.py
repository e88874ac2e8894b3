"""Whose processes connect: without a token, only those of the account that runs the server are let in.

On Linux the kernel tells to whom the socket at the other end of a connection on this machine belongs: it is asked by
netlink, or else its tables in `/proc/net` are read, which takes some 15 µs for each connection of the machine. Other
systems don't tell, so there every account of the machine is let in.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from aiohttp import web

logger = logging.getLogger("kinograph")

Address = tuple[str, int]
"""An IP address and a port."""

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""Headers of a proxy, which may be this account's, but passes on requests of others."""
TABLES = Path("/proc/net")

_SOCK_DIAG = 4  # the protocol number of NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # the message type SOCK_DIAG_BY_FAMILY
_ERROR = 2  # the message type NLMSG_ERROR
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REPLY = struct.Struct("=4B4s32s12s5I")  # struct inet_diag_msg
_LISTEN = 10  # the state TCP_LISTEN
_MAPPED = bytes(10) + b"\xff\xff"
"""The start of an IPv4 address in a client's socket that is made for IPv6."""


class Peers:
    """Tells the connections of this account's processes from others."""

    def __init__(self) -> None:
        self._owners: WeakKeyDictionary[asyncio.BaseTransport, int | None] = WeakKeyDictionary()

    async def is_own(self, request: web.Request) -> bool:
        """Whether a request comes from a process of the account that runs the server, and from no proxy."""
        if any(name in request.headers for name in FORWARDED):
            logger.warning("a request that a proxy passed on was refused: it needs a token")
            return False
        if sys.platform != "linux":
            return True
        transport = request.transport
        if transport is None:  # closed meanwhile
            return False
        if transport not in self._owners:
            client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
            self._owners[transport] = await owner(client[:2], server[:2])
        found = self._owners[transport]
        if found == os.geteuid():
            return True
        whose = "an unknown account" if found is None else f"the account with the id {found}"
        logger.warning("a request of %s was refused: it needs a token", whose)
        return False


async def owner(client: Address, server: Address) -> int | None:
    """The user id of a connection's client on this machine; None if there is none or it isn't known."""
    try:
        found = asked(client, server)
    except OSError:  # a kernel without netlink's socket diagnosis, or a sandbox
        found = await asyncio.to_thread(listed, client, server)
    return None if found == _foreign() else found


def asked(client: Address, server: Address) -> int | None:
    """The same, as the kernel answers by netlink; raises OSError if it can't be asked."""
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    ends = [socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (client, server)]
    ports = struct.pack("!HH", client[1], server[1])
    request = struct.pack("=4BI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    request += ports + b"".join(ends) + struct.pack("=I2I", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.sendto(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, 1, 1, 0) + request, (0, 0))
        reply = kernel.recv(8192)
    if _HEADER.unpack_from(reply)[1] == _ERROR:
        number = -int(struct.unpack_from("=i", reply, _HEADER.size)[0])
        if number == errno.ENOENT:
            return None
        raise OSError(number, os.strerror(number))
    _, state, _, _, found, addresses, _, *_, uid, inode = _REPLY.unpack_from(reply, _HEADER.size)
    # without the connection the kernel may answer with who listens there; without an inode nobody owns it any more
    expected = (b"".join(ends), b"".join(_MAPPED + end[:4] for end in ends))
    is_it = found == ports and addresses in expected and state != _LISTEN and inode
    return int(uid) if is_it else None


def listed(client: Address, server: Address, tables: Path = TABLES) -> int | None:
    """The same, from the kernel's tables of all connections."""
    for name, ends in _written(client, server):
        try:
            lines = (tables / name).read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            _, local, remote, state, _, _, _, uid, _, inode, *_ = line.split()
            if (local, remote) == ends and int(state, 16) != _LISTEN and inode != "0":
                return int(uid)
    return None


def _written(client: Address, server: Address) -> Iterable[tuple[str, tuple[str, str]]]:
    """The tables in which a connection may be, and how its ends are written there."""
    if ":" in client[0]:
        return [("tcp6", (_hex(client), _hex(server)))]
    mapped = _words(_MAPPED)
    return [("tcp", (_hex(client), _hex(server))), ("tcp6", (mapped + _hex(client), mapped + _hex(server)))]


def _hex(end: Address) -> str:
    family = socket.AF_INET6 if ":" in end[0] else socket.AF_INET
    return f"{_words(socket.inet_pton(family, end[0]))}:{end[1]:04X}"


def _words(address: bytes) -> str:
    """An address as the tables have it: words in the machine's byte order."""
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", address))


@cache
def _foreign() -> int | None:
    """The user id that stands for all accounts outside of a container's own; None outside of such containers."""
    try:
        if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except OSError:
        return None


PEERS = web.AppKey("peers", Peers)

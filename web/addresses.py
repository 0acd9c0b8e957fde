"""Whose request it is as far as the network can tell: the address that shares are counted by.

The server has already put in the place of a trusted proxy whoever it forwards for. The addresses
of proxies themselves, and those of this machine, are nobody's: what many people share is no
measure of one.
"""

import functools
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, TypeAlias

from fastapi import Depends, Request
from starlette.types import Scope

from config import Settings

Network: TypeAlias = IPv4Network | IPv6Network

# What a provider gives to one customer at least, who may take any address of it (RFC 6177).
IPV6_CUSTOMER_BITS = 64


def find_client_address(scope: Scope, settings: Settings) -> str | None:
    """Return the client's address, of IPv6 its /64; None for one that is nobody's or unknown."""
    client = scope.get("client")
    if not client:
        return None
    try:
        address = ip_address(client[0])
    except ValueError:  # of a socket that is a file, or of a proxy that hides its clients
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    shared = find_networks(settings.forwarded_allow_ips) + find_networks(settings.shared_addresses)
    if any(address in network for network in shared):
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), IPV6_CUSTOMER_BITS), strict=False))


@functools.cache
def find_networks(words: str) -> tuple[Network, ...]:
    """Return the networks among what is set; a name or "*" is none."""
    found: list[Network] = []
    for word in words.split(","):
        try:
            found.append(ip_network(word.strip()))
        except ValueError:
            continue
    return tuple(found)


def _find_client_address(request: Request) -> str | None:
    return find_client_address(request.scope, request.app.state.settings)


# A FastAPI dependency: the address that the request's share is counted by.
ClientAddress = Annotated[str | None, Depends(_find_client_address)]

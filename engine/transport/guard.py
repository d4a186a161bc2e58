"""Guard: which addresses may be connected to, decided on the resolved address and never on a URL's text.

Pure: no lookup, no socket. `ipaddress` alone is no judge here: it calls 100.64.0.1 not private, and the
loopback address written as NAT64 or 6to4 global; and a name, or a number like 2130706433, says nothing until
it is resolved. So the transport asks this for every address it is about to use.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from engine.errors import AddressRefused

# IANA special-purpose registry (RFC 6890 and successors), multicast and the reserved top.
_FORBIDDEN_V4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_V6 = ip_network("2000::/3")
_FORBIDDEN_V6 = tuple(
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "3fff::/20")
)  # fmt: skip
_NAT64 = ip_network("64:ff9b::/96")
_MAPPED = (ip_network("::ffff:0:0/96"), ip_network("::ffff:0:0:0/96"), ip_network("::/96"))
_6TO4 = ip_network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """A policy for connections to addresses we were told by others (signed URLs, callbacks).

    `allowed_hosts` hold "host" or "host:port" as URLs write them (IPv6 in brackets); they may lie anywhere.
    `allow_private` admits every address: for hosts that our own configuration names.
    """

    allow_private: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def admit(self, host: str, port: int, address: str) -> None:
        """Let a connection to `address`, resolved from `host`, pass.

        Raises:
            AddressRefused: the address is not one of the public internet, and the host is not allowed by name.
        """
        if self.allow_private or not is_forbidden(address):
            return
        name = f"[{host}]" if ":" in host else host
        if name in self.allowed_hosts or f"{name}:{port}" in self.allowed_hosts:
            return
        raise AddressRefused(
            f"{name}:{port} leads to {address}, which is not a public address; nothing was sent",
            hint="a result or callback URL may not point inside; allow its host only if it is yours",
        )


def is_forbidden(address: str) -> bool:
    """Whether an address is anything but one of the public internet; text that is no address is forbidden.

    An IPv4 address inside an IPv6 one (mapped, compatible, 6to4, NAT64, ISATAP) counts as itself.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(parsed, IPv4Address):
        return any(parsed in network for network in _FORBIDDEN_V4)
    inner = _embedded(parsed)
    if inner is not None and any(inner in network for network in _FORBIDDEN_V4):
        return True
    if parsed in _NAT64:
        return False
    if parsed not in _GLOBAL_V6:
        # Mapped and compatible forms are no way to write a host: connect to the IPv4 address itself.
        return True
    return any(parsed in network for network in _FORBIDDEN_V6)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    number = int(address)
    if address in _6TO4:
        return IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in _NAT64 or any(address in network for network in _MAPPED):
        return IPv4Address(number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return IPv4Address(number & 0xFFFFFFFF)
    return None

"""The guard: every way to write an address that is not public, and that no honest one is caught."""

import pytest

from engine.errors import TrustError
from engine.loopback import is_loopback
from engine.transport.guard import Guard, is_forbidden


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1",
        "100.127.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.0.0.8",
        "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1",
        "3fff::1", "100::1", "2001::1", "2001:10::1", "2001:20::1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
        "2002:a9fe:a9fe::1", "2002:c0a8:1::", "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1",
        "", "localhost", "127.1", "0x7f000001", "2130706433", "01.2.3.4", "1.2.3.4.5", "8.8.8.8 ",
    ],
)  # fmt: skip
def test_t10_what_is_not_public_is_forbidden(address) -> None:
    """T10: private, shared, local, reserved and multicast addresses, also inside IPv6, and what is no address."""
    assert is_forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.1",
        "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888",
        "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1", "2606:4700::5efe:8.8.8.8",
    ],
)  # fmt: skip
def test_public_addresses_pass(address) -> None:
    """Neighbours of the forbidden ranges, and public addresses inside IPv6, are let through."""
    assert not is_forbidden(address)


def test_a_host_of_ours_is_let_in_by_name_and_nothing_else_is() -> None:
    """T10: the exception is one host, or one port of it, and says nothing about others at the same address."""
    guard = Guard(allowed_hosts=frozenset(("127.0.0.1:8080", "emulator", "[::1]:9")))

    guard.admit("127.0.0.1", 8080, "127.0.0.1")
    guard.admit("emulator", 1234, "10.0.0.9")
    guard.admit("::1", 9, "::1")
    guard.admit("example.com", 443, "8.8.8.8")
    for host, port, address in (
        ("127.0.0.1", 8081, "127.0.0.1"), ("localhost", 8080, "127.0.0.1"), ("::1", 8, "::1"),
        ("emulator.evil", 1, "10.0.0.9"),
    ):  # fmt: skip
        with pytest.raises(TrustError, match="is not a public address; nothing was sent"):
            guard.admit(host, port, address)


def test_configuration_of_our_own_may_lie_anywhere() -> None:
    """`allow_private` is for the hosts that the operator wrote down."""
    Guard(allow_private=True).admit("api.internal", 443, "10.1.2.3")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
        ("[::1]", True), ("127.0.0.1.example", False), ("localhost.example", False), ("10.0.0.1", False),
        ("", False), ("127.1", False),
    ],
)  # fmt: skip
def test_loopback_by_its_plain_names(host, expected) -> None:
    """This machine is known by its plain names only."""
    assert is_loopback(host) is expected

"""The address that shares are counted by: whose it is, and which are nobody's."""

import pytest

from config import Settings
from web.addresses import find_client_address

PROXY = "10.0.0.9"

COUNTED = {
    "203.0.113.7": "203.0.113.7",
    "::ffff:203.0.113.7": "203.0.113.7",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "2001:db8:1:2:ffff::1": "2001:db8:1:2::/64",
    "fe80::1%eth0": "fe80::/64",
    # Loopback, the proxies, and what is no address.
    "127.0.0.1": None,
    "127.0.0.2": None,
    "::ffff:127.0.0.2": None,
    "::1": None,
    PROXY: None,
    "172.16.4.4": None,
    "unix:/run/darkroom.sock": None,
    "unknown": None,
    "": None,
}


def make_settings(**more: str) -> Settings:
    given = {"forwarded_allow_ips": f"{PROXY}, 172.16.0.0/12, /run/proxy.sock", **more}
    return Settings.model_validate(given)


@pytest.mark.parametrize(("client", "address"), COUNTED.items(), ids=list(COUNTED))
def test_an_address_is_counted_unless_it_is_nobodys(client: str, address: str | None) -> None:
    found = find_client_address({"type": "http", "client": (client, 4711)}, make_settings())
    assert found == address


def test_a_request_without_a_client_has_no_address() -> None:
    assert find_client_address({"type": "http"}, make_settings()) is None
    assert find_client_address({"type": "http", "client": None}, make_settings()) is None


def test_an_address_of_this_machine_can_be_counted() -> None:
    settings = make_settings(shared_addresses="127.0.0.1,::1")
    assert find_client_address({"client": ("127.0.0.2", 1)}, settings) == "127.0.0.2"
    assert find_client_address({"client": ("127.0.0.1", 1)}, settings) is None


def test_where_every_proxy_is_believed_their_clients_are_counted() -> None:
    settings = make_settings(forwarded_allow_ips="*")
    assert find_client_address({"client": ("203.0.113.7", 1)}, settings) == "203.0.113.7"
    assert find_client_address({"client": ("127.0.0.1", 1)}, settings) is None

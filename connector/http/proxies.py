"""The proxy between here and a host, as the environment names it.

httpx makes a pattern of every entry of NO_PROXY, also of those that concern other hosts, and gives up on one
that it cannot read, such as [::1]. Here only one host matters, so each entry is compared with it.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies

_PORT_BEHIND = re.compile(r"(\[.*\]|[^:]*):(\d+)")


def proxy_for(url: str) -> str | None:
    """The proxy for a URL, from HTTPS_PROXY or ALL_PROXY; None where NO_PROXY excludes its host."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_excluded(parts.hostname or "", parts.port or 443, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_excluded(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host; an entry that cannot be read names none.

    Entries stand between commas or blanks: `*`, a domain with or without `.` or `*.` before it, an address
    with or without brackets, or a network (10.0.0.0/8); each may have a port.
    """
    host, entries = host.lower().rstrip("."), re.split(r"[\s,;]+", no_proxy.lower())
    return any(_names(entry, host, port) for entry in entries)


def _names(entry: str, host: str, port: int) -> bool:
    entry = entry.rpartition("://")[2]
    if with_port := _PORT_BEHIND.fullmatch(entry):
        entry = with_port[1]
        if with_port[2] != str(port):
            return False
    if entry == "*":
        return True
    # Brackets stand around an address, not around its network: [fd00::]/8.
    entry = entry.replace("[", "").replace("]", "")
    if address := _address(host):
        return _holds(entry, address)
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _holds(entry: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None

"""Ends a Python that looks up or contacts another machine; found by every Python that Airflow starts."""

import os
import sys
from ipaddress import ip_address


def is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ip_address(str(host)).is_loopback
    except ValueError:
        return False


def guard(event: str, args: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        # Two numbers or more: an address of the internet. Anything else is a socket in the file system.
        host: object = address[0] if isinstance(address, tuple) and len(address) > 1 else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not is_local(host) and host != os.uname().nodename:
        sys.stderr.write(f"GUARD: {event} reached for {host!r}\n")
        sys.stderr.flush()
        os._exit(99)


sys.addaudithook(guard)

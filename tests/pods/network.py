"""A network of one pod's own: a namespace with loopback, and an address that only this machine reaches."""

from __future__ import annotations

import itertools
import os
import subprocess

# For benchmarks of networks (RFC 2544), so nobody's. Each pod has a network of four addresses of it.
_numbers = itertools.count(os.getpid() % 2048 * 16)


class PodNetwork:
    """What the pod sandbox is elsewhere. `address` is the pod's, `host` the machine's own in it. Needs root."""

    def __init__(self) -> None:
        """Raises CalledProcessError where the kernel forbids it."""
        number = next(_numbers) % 32768
        self.name = f"embedserve-{os.getpid()}-{number}"
        self.address, self.host = _address(number, 2), _address(number, 1)
        link = f"emb{number}"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("addr", "add", f"{self.host}/30", "dev", link)
            _ip("link", "set", link, "up")
            _ip("-n", self.name, "addr", "add", f"{self.address}/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", self.name, "link", "set", device, "up")
        except BaseException:
            self.remove()
            raise

    @property
    def path(self) -> str:
        """Of the namespace."""
        return f"/run/netns/{self.name}"

    def remove(self) -> None:
        """Its links go with it."""
        _ip("netns", "del", self.name)


def _address(number: int, host: int) -> str:
    """198.18.0.0/15, four addresses a network."""
    place = number * 4 + host
    return f"198.{18 + (place >> 16)}.{place >> 8 & 255}.{place & 255}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)

"""A Beamer API and a Segment API on loopback, with a made-up company behind them."""

from connector.sandbox.company import Company
from connector.sandbox.message import Answer, Request
from connector.sandbox.sandbox import Sandbox
from connector.sandbox.server import Served
from connector.sandbox.switches import STREAMS, Switches

__all__ = [
    "STREAMS",
    "Answer",
    "Company",
    "Request",
    "Sandbox",
    "Served",
    "Switches",
]

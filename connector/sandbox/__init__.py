"""A Beamer API and a Segment API on loopback, with a made-up company behind them."""

from connector.sandbox.account import MONTHLY, Switches
from connector.sandbox.life import Company
from connector.sandbox.row import STREAMS, Row
from connector.sandbox.sandbox import Sandbox, environment
from connector.sandbox.server import Answer, Api, Request, Served

__all__ = [
    "MONTHLY",
    "STREAMS",
    "Answer",
    "Api",
    "Company",
    "Request",
    "Row",
    "Sandbox",
    "Served",
    "Switches",
    "environment",
]

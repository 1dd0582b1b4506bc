"""The sandbox as tests use it: with faults, with a log of its requests, and without sockets."""

from tests.sandbox.faults import Faults, Step
from tests.sandbox.sandbox import RequestSeen, Sandbox
from tests.sandbox.served import FaultyServed

__all__ = ["Faults", "FaultyServed", "RequestSeen", "Sandbox", "Step"]

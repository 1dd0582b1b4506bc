"""Whole syncs run here; their log would be most of what they do."""

from tests.sync.conftest import quiet

__all__ = ["quiet"]

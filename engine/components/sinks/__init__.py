"""Sinks: where results land, once."""

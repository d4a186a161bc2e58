"""Bytes to values and back, with a cap on everything foreign."""

"""Transforms: what changes records on their way."""

"""Expressions over one row: a subset of CEL, parsed, checked and compiled once, then called for each row."""

"""Whole runs, and the pieces that connect them."""

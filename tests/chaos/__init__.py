"""Kills, faults, and the auditor that looks at what came of them."""

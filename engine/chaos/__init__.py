"""Chaos: runs pipelines among kills and faults, resumes them, and lets an auditor compare with undisturbed runs."""

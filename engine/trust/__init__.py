"""Proofs: tokens against a cached key set, webhook signatures, canonical bytes."""

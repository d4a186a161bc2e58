"""Proofs: tokens against a cached key set, webhook signatures, chains of custody."""

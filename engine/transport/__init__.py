"""The wire: requests going out and coming in, retries, limits, trace headers."""

"""The wire: aiohttp going out and coming in, retries, limits, trace headers."""

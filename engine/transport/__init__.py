"""The wire: connections of our own and aiohttp's, retries, limits, trace headers, the guard, the listener."""

"""The wire: connections of our own and aiohttp's, the listener, retries, limits, trace headers, the guard."""

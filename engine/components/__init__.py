"""Built-in sources, transforms and sinks."""

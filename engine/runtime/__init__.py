"""One run of one pipeline: source to sink, tasks, back-pressure, the report."""

"""Facts to OpenTelemetry, to log lines, and to several listeners at once."""

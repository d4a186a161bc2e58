"""The life of a job, piece by piece."""

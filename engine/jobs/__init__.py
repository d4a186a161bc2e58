"""The life of a remote job: plan, create, wait, fetch, commit."""

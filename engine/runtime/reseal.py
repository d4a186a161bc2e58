"""Jobs that were planned and never sent, made again after the pipeline's file has changed.

The platform has not seen them, so their bodies and keys may still change; the rows they stand for may not, because the
books have counted those.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.jobs.key import derive_key, digest_keys
from engine.jobs.lifecycle import PLANNED
from engine.jobs.pack import digest_body
from engine.runtime.reading import Reader
from engine.store.ledger import Ledger
from engine.store.rows import JobRow


def is_unsent(job: JobRow) -> bool:
    """Whether no request about this job has ever left."""
    return job.state == PLANNED and job.attempt == 1 and job.sent_ns is None


async def reseal(jobs: Sequence[JobRow], *, reader: Reader, ledger: Ledger, pipeline: str) -> None:
    """Give unsent jobs the bodies that the file now makes of their rows, and the keys of those.

    Raises:
        StaleCheckpoint: the file now makes another number of rows of them.
    """
    for job in jobs:
        records = await reader.recall(job)
        body = reader.packer.body(records.items)
        job.digest, job.body_bytes, job.keys_digest = digest_body(body), len(body), digest_keys(records.keys)
        job.key = derive_key(pipeline=pipeline, epoch=job.epoch, seq=job.seq, attempt=job.attempt, digest=job.digest)
    await ledger.reseal(jobs)

"""Set-ups: what has to exist before a route's example can be asked, one function for each route that needs one.

A function is given the bench, makes what the question names by asking other routes, and returns the members of the
question that name it. They replace the example's. Whoever adds a route with members in its path adds a row here.
"""

import anyio

from engine.contract.exchange import Trace
from engine.contract.jobs import TERMINAL

ENRICH = {"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ["p1", "p2"]}}
EVIDENCE = {
    "kind": "import.bulk",
    "payload": {"source": {"inline": [{"external_id": "ev_conform", "label": "x"}]}, "entity_type": "evidence"},
}
JOB_S = 60


async def as_written(bench):
    """The example as it stands: it names what every platform has."""
    return {}


async def an_app(bench):
    """An app of its own, so that whatever is done to it harms nobody."""
    made = await bench.client.ask("identity.create_app", {"name": "conformance", "grant_types": ["client_credentials"]})
    return {"client_id": made["client_id"]}


async def our_redirect(bench):
    """The app under test, with an address that is registered for it."""
    return {"client_id": bench.target.client_id, "redirect_uri": bench.target.redirect_uri}


async def our_credentials(bench):
    """Those of the app under test."""
    return {"client_id": bench.target.client_id, "client_secret": bench.target.client_secret}


async def a_trace(bench):
    """The trace of a request that was made just now."""
    trace = Trace.new()
    await bench.client.jobs.list(trace=trace)
    return {"trace_id": trace.trace_id}


async def a_job(bench):
    """A job, wherever it is in its life."""
    return {"id": (await bench.client.jobs.create(**ENRICH)).answer.id}


async def a_finished_job(bench):
    """A job with a result."""
    return {"id": await _finish(bench, ENRICH)}


async def a_new_key(bench):
    """A job that no earlier run of the suite made."""
    return {"idempotency_key": f"conformance-{Trace.new().trace_id}"}


async def some_evidence(bench):
    """Evidence with a chain of custody."""
    await _finish(bench, EVIDENCE)
    return {"evidence_id": "ev_conform"}


async def a_webhook(bench):
    """A subscription; nothing is sent to it but by the route that sends a test."""
    wish = {"url": "https://integrator.example/webhooks/argus", "events": ["incident.updated"]}
    return {"webhook_id": (await bench.client.ask("webhooks.create", wish))["id"]}


async def a_new_serial_number(bench):
    """A device that nobody has enrolled."""
    return {"serial_number": f"SN-{Trace.new().trace_id}"}


async def a_device(bench):
    """A device that is enrolled."""
    wish = {"manufacturer": "Acme", "model": "PulseOx 3", "type_code": "528388", **await a_new_serial_number(bench)}
    return {"device_id": (await bench.client.ask("devices.enrol", wish))["id"]}


async def an_encounter(bench):
    """A patient care record without a person."""
    made = await bench.client.ask("epcr.create", {"incident_id": "inc_1", "started_at": "2026-05-08T12:00:00Z"})
    return {"encounter_id": made["id"]}


async def _finish(bench, wish):
    job = (await bench.client.jobs.create(**wish)).answer
    with anyio.fail_after(JOB_S):
        while job.status not in TERMINAL:
            job = (await bench.client.jobs.get(job.id)).answer
    assert job.status == "succeeded", job
    return job.id


SETUPS = {
    "identity.get_app": an_app,
    "identity.govern_app": an_app,
    "oauth.authorize": our_redirect,
    "oauth.token": our_credentials,
    "oauth.service_token": an_app,
    "oauth.rotate_secret": an_app,
    "webhooks.get": a_webhook,
    "webhooks.update": a_webhook,
    "webhooks.delete": a_webhook,
    "webhooks.deliveries": a_webhook,
    "webhooks.test": a_webhook,
    "epcr.get": an_encounter,
    "epcr.bundle": an_encounter,
    "devices.enrol": a_new_serial_number,
    "devices.observe": a_device,
    "tracing.get": a_trace,
    "jobs.create": a_new_key,
    "jobs.get": a_job,
    "jobs.result": a_finished_job,
    "jobs.cancel": a_job,
    "sandbox.token": an_app,
    "provenance.get": some_evidence,
    "provenance.verify": some_evidence,
    "provenance.keys": as_written,
    "reference.topic": as_written,
    "reference.module": as_written,
}

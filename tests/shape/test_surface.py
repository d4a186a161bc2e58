"""The public surface: exactly these names, each importable, each documented."""

import engine

SURFACE = """
    ROUTES Access Batch Client ConfigError Conflict DeadLetter Emulator EngineError EventReader Missing Observer
    PartialFailure PipelineSpec PlanError PlatformError Receiver RecordError Refused Rejected Report Route RunFailed
    RunOrder Secret Settings Sink Source StateError StopFlag Throttled Trace Transform TransportError TrustError
    Unavailable Unbalanced call_route load_pipeline load_settings open_platform run_pipeline
""".split()


def test_the_surface_is_exactly_this() -> None:
    """A new public name is a decision: it is added here, and to the documentation, or not at all."""
    assert engine.__all__ == SURFACE


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    """Each name leads to the thing itself, with a docstring unless it is data."""
    for name in engine.__all__:
        thing = getattr(engine, name)
        assert name == "ROUTES" or (thing.__doc__ or "").strip(), name

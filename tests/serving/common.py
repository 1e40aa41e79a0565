"""What tests of bodies ask of an engine."""

from types import SimpleNamespace

from mindspore_osum.systems.registry import preset, system_of


def engine(name: str) -> SimpleNamespace:
    """What a form asks of an engine, for a preset; no model is made."""
    cfg = preset(name)
    system = system_of(cfg.model_type)
    asked = lambda request: system.check_request(request, cfg) or request  # noqa: E731
    return SimpleNamespace(system=system, asked=asked, log_probabilities=name != "tiny")

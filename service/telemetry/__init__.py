"""Traces on their way out: OpenTelemetry's variables, spans by its conventions, and OTLP over HTTP beside the requests.

The only importer of opentelemetry, and only where an operator has named an endpoint.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from service.errors import StartupError
from service.telemetry.variables import ENDPOINTS, sending

if TYPE_CHECKING:
    from service.telemetry.tracer import Tracer


def open_tracer() -> Tracer | None:
    """By OpenTelemetry's variables; None where they name no endpoint. Raises StartupError."""
    told = sending(os.environ)
    if told is None:
        return None
    for name in ENDPOINTS:  # the exporter reads them itself, spaces around them included
        if name in os.environ:
            os.environ[name] = os.environ[name].strip()
    try:
        from service.telemetry.tracer import Tracer

        return Tracer(told)
    except ImportError as error:
        reason = f"an endpoint for traces is set ({told.endpoint}), and {error.name} is not installed"
        raise StartupError(reason, "pip install 'embedserve[otel]', or unset OTEL_EXPORTER_OTLP_ENDPOINT") from error
    except (ValueError, OSError, RuntimeError) as error:  # the library reads some variables while it is imported
        reason = f"traces cannot be sent as the variables say: {error}"
        raise StartupError(reason, "mend or unset that variable OTEL_*") from error

"""The HTTP edge of the coordinator: REST, OpenAPI, events, logs, and the guard before all of them."""

from rota.coordinator.http.app import HttpApp, build_app
from rota.coordinator.http.guard import Guard, GuardConfig, check_headers

__all__ = ["Guard", "GuardConfig", "HttpApp", "build_app", "check_headers"]

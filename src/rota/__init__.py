"""Rota: a distributed task scheduler. One command to start, one line to submit, nothing lost."""

__version__ = "0.1.0"
__all__ = ["__version__"]

"""The settings of the core, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from rota.core.protocol import BlobHome

__all__ = ["SchedulerConfig"]


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How patient the core is, in seconds on the steady clock, and what it tells workers of the coordinator.

    Attributes:
        heartbeat_s: How often workers are told to send a heartbeat.
        suspicious_after_s: Silence after which a worker gets nothing new.
        offline_after_s: Silence after which its attempts are lost and its tasks go elsewhere.
        grace_s: How long after a start nobody is declared offline.
        blackout_s: How long nobody is declared offline after half of the workers fell silent at once.
        impossible_after_s: How long a task that no known worker could ever hold may wait for one.
        kill_grace_s: From SIGTERM to SIGKILL.
        lease_s: How long after it sent a heartbeat that was answered a worker may run exclusive attempts.
        lease_grace_s: What these have from SIGTERM to SIGKILL when the lease is over.
        exclusive_wait_s: How long after the last sign of life of a worker, and after a start, no other attempt of an
            exclusive task begins that may still run there.
        forget_after_s: How long a lost worker stays in the list.
        placement: The name of the policy for tasks that name none.
        ordering: The name of the policy that says which task goes first.
        ageing: Points of priority that a task gains in each minute that it waits.
        seed: Of everything that is drawn by lot.
        shadow: The name of a policy that is asked beside the one that decides, without effect; none if not given.
        blob_home: Where blobs are kept, for workers on the same machine.
    """

    heartbeat_s: float = 3.0
    suspicious_after_s: float = 10.0
    offline_after_s: float = 20.0
    grace_s: float = 60.0
    blackout_s: float = 120.0
    impossible_after_s: float = 600.0
    kill_grace_s: float = 10.0
    lease_s: float = 30.0
    lease_grace_s: float = 5.0
    exclusive_wait_s: float = 45.0
    forget_after_s: float = 86_400.0
    placement: str = "least-loaded"
    ordering: str = "priority"
    ageing: float = 0.0
    seed: int = 0
    shadow: str | None = None
    blob_home: BlobHome | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in (
            "heartbeat_s",
            "suspicious_after_s",
            "offline_after_s",
            "impossible_after_s",
            "forget_after_s",
            "lease_s",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("grace_s", "blackout_s", "kill_grace_s", "lease_grace_s", "ageing"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} can't be negative, got {getattr(self, name)}")
        if self.suspicious_after_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"suspicious_after_s must be at least twice heartbeat_s, got {self.suspicious_after_s}"
                f" for heartbeat_s={self.heartbeat_s}"
            )
        if self.offline_after_s <= self.suspicious_after_s:
            raise ValueError(
                f"offline_after_s must be more than suspicious_after_s, got {self.offline_after_s}"
                f" for suspicious_after_s={self.suspicious_after_s}"
            )
        if self.exclusive_wait_s <= self.lease_s + self.lease_grace_s:
            raise ValueError(
                "exclusive_wait_s must be more than lease_s + lease_grace_s, or an exclusive task could run twice,"
                f" got {self.exclusive_wait_s} for lease_s={self.lease_s} and lease_grace_s={self.lease_grace_s}"
            )

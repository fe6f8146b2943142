"""The page on gRPC has every RPC and every status that there is."""

from __future__ import annotations

import re

import pytest

from rota.coordinator.grpc.contracts import public_contracts
from rota.coordinator.grpc.errors import GRPC_STATUS_OF
from rota.coordinator.grpc.watching import OpenWatches
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.house import ROOT

PAGE = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
MOVING = (ROOT / "docs" / "moving-from-taskandgo.md").read_text(encoding="utf-8")

SERVED = {
    contract.descriptor.full_name: {method.name for method in contract.descriptor.methods}
    for contract in public_contracts(FakeService(), OpenWatches(), blobs=BlobStore(None))
}


@pytest.mark.parametrize("service", SERVED)
def test_page_lists_the_rpcs_of_a_service_and_no_other(service: str) -> None:
    table = PAGE.split(f"| RPC of `{service}` |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == SERVED[service]


def test_page_of_taskandgo_says_what_each_of_its_calls_does() -> None:
    assert SERVED["scheduler.Scheduler"] <= set(re.findall(r"^\| `(\w+)` \|", MOVING, re.M))


def test_every_status_is_explained() -> None:
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.M))
    sent = {status.name for status in GRPC_STATUS_OF.values()}
    assert sent - told == {"PERMISSION_DENIED"}, "which is for browsers, and they can't come here"

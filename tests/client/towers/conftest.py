"""A server that answers as Triton does, for the tests of the clients."""

import pytest
from support.triton_standin import Service, standing_in


@pytest.fixture
def service(bundle):
    return Service(bundle.bundle_id)


@pytest.fixture
def url(service):
    with standing_in(service) as url:
        yield url

"""What holds for every test: the order of imports, no clock in properties, no DDS domain kept after its module."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

import vla_ros.sim.rendering  # noqa: F401  # MuJoCo chooses its OpenGL back end when it is imported

settings.register_profile("no_clock", deadline=None)  # no test asserts a time
settings.load_profile("no_clock")


@pytest.fixture(scope="module", autouse=True)
def released_domains() -> Iterator[None]:
    """Give back a module's DDS domains: the whole run needs more than the 99 that there are when tests run again."""
    yield
    claims = sys.modules.get("vla_ros.nodes.dds_domains")
    if claims is not None:
        claims.release_domains()

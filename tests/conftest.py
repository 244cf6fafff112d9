"""What all tests share: how hypothesis runs, and `--rewrite` for recorded expectations."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dompbus",
    deadline=None,  # two cores shared with others: wall time says nothing
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("dompbus")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write recorded expectations (tests/vectors) anew")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether recorded expectations are to be written anew."""
    return bool(request.config.getoption("--rewrite"))

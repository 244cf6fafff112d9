"""What all tests share: how hypothesis runs, and `--rewrite` for recorded expectations."""

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dompbus",
    deadline=None,  # two cores shared with others: wall time says nothing
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("dompbus")


# A shell starts background jobs with these ignored, and children inherit that: the processes under test are to be
# interrupted and hung up on as in a terminal.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write recorded expectations (tests/vectors) anew")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether recorded expectations are to be written anew."""
    return bool(request.config.getoption("--rewrite"))

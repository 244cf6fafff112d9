"""Limits hold together, and the numbers that travel are those that were promised."""

from dompbus import limits
from dompbus.config import Config


def test_relations_between_bounds() -> None:
    assert limits.HEADER_BYTES == 48
    assert limits.PAYLOAD_BYTES_MAX < limits.BODY_BYTES_MAX < limits.FRAME_BYTES_MAX
    assert limits.REQUESTS_PER_FRAME_MAX <= limits.OUTSTANDING_REQUESTS_MAX <= limits.SERVICE_QUEUE_MAX
    assert limits.RUNS_PER_FRAME_MAX <= limits.MESSAGES_PER_FRAME_MAX
    assert limits.SUBSCRIPTIONS_PER_PEER_MAX * (limits.TOPIC_BYTES_MAX + 32) < limits.BODY_BYTES_MAX // 2
    assert max(limits.SEQ_MAX, limits.EPOCH_MAX, limits.TIME_NS_MAX) < 2**63


def test_every_bound_is_a_positive_number() -> None:
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert len(bounds) > 30
    assert all(isinstance(value, int | float) and value > 0 for value in bounds.values())


def test_defaults_of_the_configuration_are_within_the_bounds() -> None:
    config = Config()
    assert config.batch.messages_max <= limits.MESSAGES_PER_FRAME_MAX
    assert config.batch.bytes_max <= limits.BODY_BYTES_MAX
    assert config.flow.ring_bytes <= limits.RING_BYTES_MAX

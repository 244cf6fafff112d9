"""How one round of two processes is conducted: start, connect, warm up, measure, collect. The same for every side.

The law here: the harness gives the cues, so that warming up is over on both ends before the clock starts; a side that
loses a message reports an error, which makes the round invalid (`SideFailed`) instead of fast.
"""

from typing import Any

from perf.histogram import percentile_us
from perf.processes import Cast
from perf.work import Plan, Sample

__all__ = ["latency_of", "publish_and_subscribe", "request_and_reply", "throughput_of"]


def publish_and_subscribe(module: str, plan: Plan, **options: Any) -> dict[str, Any]:
    """Run the roles `publisher` and `subscriber` of a module; give what both reported, in one dictionary."""
    amounts = {"count": plan.count, "warm": plan.warm}
    with Cast(plan.timeout) as cast:
        publisher = cast.role(module, "publisher", **amounts, **options)
        endpoint = publisher.hear()["endpoint"]
        subscriber = cast.role(module, "subscriber", endpoint=endpoint, **amounts, **options)
        subscriber.hear()  # ready
        publisher.hear()  # has seen the subscription
        publisher.say(cue="warm up")
        subscriber.hear()  # warmed up
        publisher.say(cue="measure")
        received = subscriber.hear()
        return {**publisher.hear(), **received}


def request_and_reply(module: str, plan: Plan, *, server_module: str | None = None, **options: Any) -> dict[str, Any]:
    """Run the roles `server` and `client` of a module; give what the client reported."""
    with Cast(plan.timeout) as cast:
        endpoint = cast.role(server_module or module, "server", **options).hear()["endpoint"]
        amounts = {"count": plan.count, "warm": plan.warm}
        client = cast.role(module, "client", endpoint=endpoint, **amounts, **options)
        client.hear()  # ready
        client.say(cue="measure")
        return client.hear()


def throughput_of(report: dict[str, Any], count: int) -> float:
    """Messages a second, in millions, from the first publish to the last message in the reader's hands."""
    return float(count / (report["finished_ns"] - report["started_ns"]) * 1e3)


def latency_of(report: dict[str, Any], *percentiles: float) -> Sample:
    """The percentiles `p50`, `p99`, ... in microseconds, with the histogram that they come from."""
    text = report["histogram"]
    values = {f"p{percentile:g}": percentile_us(text, percentile) for percentile in percentiles}
    return Sample(values, {"latency": text})

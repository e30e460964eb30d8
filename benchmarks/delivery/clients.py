"""
One client that records a stream, in a process of its own: `python clients.py NAME URL COUNTS FIRST END RATE`.

Each is used as its documentation says, with its own defaults. `COUNTS` is a file of two numbers
that outlives the process: how many records have returned, and whether the client may end.
"""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PACKAGES = {
    "agentsight-tokens": "agentsight-tokens",
    "opentelemetry-sdk": "opentelemetry-sdk",
    "langfuse": "langfuse",
    "agentsight": "agentsight",
    "posthog": "posthog",
}
"""The clients, and the distribution of each."""


class Client(NamedTuple):
    record: Callable[[int, str], object]
    """Takes the number of a record, and the mark that must be in it."""
    end: Callable[[], object]


def ours(url: str) -> Client:
    from agentsight_tokens import ConversationTracker

    tracker = ConversationTracker(endpoint=url)

    def record(number: int, mark: str) -> None:
        with tracker.conversation(f"conversation-{number // 20}"):
            tracker.track_token_usage(1200, 300, model="gpt-4o-mini", response_id=mark)
            if number % 20 == 19:
                tracker.send_tracked_data()

    return Client(record, tracker.close)


def opentelemetry(url: str) -> Client:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("delivery")

    def record(number: int, mark: str) -> None:
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.usage.input_tokens", 1200)
            span.set_attribute("gen_ai.usage.output_tokens", 300)
            span.set_attribute("gen_ai.response.id", mark)

    return Client(record, provider.shutdown)


def langfuse(url: str) -> Client:
    from langfuse import Langfuse

    client = Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1", base_url=url)

    def record(number: int, mark: str) -> None:
        client.start_observation(
            name=mark,
            as_type="generation",
            model="gpt-4o-mini",
            usage_details={"input": 1200, "output": 300},
        ).end()

    return Client(record, client.shutdown)


def agentsight(url: str) -> Client:
    import agentsight

    key = f"ags_{'0' * 32}_{'0' * 6}"
    assert agentsight.init(key, endpoint=url, auto_instrument=False, verify_key=False)

    def record(number: int, mark: str) -> None:
        with agentsight.conversation(f"conversation-{number // 20}"), agentsight.turn():
            agentsight.user_message(mark)

    return Client(record, agentsight.shutdown)


def posthog(url: str) -> Client:
    from posthog import Posthog

    client = Posthog("phc_1", host=url)

    def record(number: int, mark: str) -> None:
        client.capture(
            "$ai_generation",
            distinct_id="user",
            properties={"$ai_input_tokens": 1200, "$ai_output_tokens": 300, "mark": mark},
        )

    return Client(record, client.shutdown)


CLIENTS = {
    "agentsight-tokens": ours,
    "opentelemetry-sdk": opentelemetry,
    "langfuse": langfuse,
    "agentsight": agentsight,
    "posthog": posthog,
}


def installed() -> dict[str, str]:
    """Return the version of each client."""
    return {name: version(package) for name, package in PACKAGES.items()}


def main() -> None:
    """Record the stream, wait until the client may end, and let it flush."""
    name, url, counts = sys.argv[1:4]
    first, end, rate = int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    with Path(counts).open("r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
    client = CLIENTS[name](url)
    began = time.monotonic()
    for number in range(first, end):
        time.sleep(max(0.0, began + (number - first) / rate - time.monotonic()))
        client.record(number, f"record-{number:06}-mark")
        cells[0] = number + 1
    while not cells[1]:
        time.sleep(0.05)
    client.end()


if __name__ == "__main__":
    main()

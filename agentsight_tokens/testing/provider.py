"""LoopbackProvider: an LLM provider on 127.0.0.1 that keeps a ledger of what it billed."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable

from typing_extensions import Self

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, refusal
from .billing import BilledCall, Ledger
from .connection import LoopbackServer, Settle
from .openai_wire import error_body
from .reply import BadDirectiveError, Reply, directives_in, reply_from
from .request import LoopbackRequest
from .routes import Route, request_from, route_of

__all__ = ["LoopbackProvider"]


class LoopbackProvider:
    """
    A provider that real clients talk to, without a network.

    It speaks OpenAI (chat, completions, Responses, embeddings, Azure's paths), Anthropic and
    Gemini. What a request is answered with comes from the first of: a directive such as
    `[[in=11 out=7 cached=4 label=a]]` in what the user says last or in the system text, the
    queue of `enqueue`, the function `respond`, the reply `default_reply`.

    Args:
        respond: Chooses the reply of a request; None leaves it to `default_reply`.
        default_reply: What is answered when nothing else was chosen.
        reject_unknown_stream_options: Whether `stream_options` is answered with a 400, as
            by a server that does not know it.
        keep_alive: Whether connections stay open between calls. Without it, frameworks that
            never close their asynchronous clients leave no socket behind to warn about.
        ids: Makes what is unique in each answer's ids.

    Example:
        >>> from agentsight_tokens.testing import LoopbackProvider
        >>> with LoopbackProvider() as provider:
        ...     provider.openai_url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        *,
        respond: Callable[[LoopbackRequest], Reply | None] | None = None,
        default_reply: Reply | None = None,
        reject_unknown_stream_options: bool = False,
        keep_alive: bool = True,
        ids: Callable[[], str] | None = None,
    ) -> None:
        self.respond = respond
        self.default_reply = default_reply or Reply()
        self.reject_unknown_stream_options = reject_unknown_stream_options
        self._keep_alive = keep_alive
        self._ids = ids or (lambda: uuid.uuid4().hex)
        self._ledger = Ledger()
        self._queue: deque[Reply] = deque()
        self._received: list[LoopbackRequest] = []
        self._faults: list[Exception] = []
        self._changed = threading.Condition()
        self._in_flight = 0
        self._requests = 0
        self._server: LoopbackServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen on a free port of 127.0.0.1."""
        if self._server is None:
            self._server = LoopbackServer(
                self._exchange,
                arrived=self._arrived,
                left=self._left,
                faults=self._faults,
                keep_alive=self._keep_alive,
            )
        return self

    def close(self) -> None:
        """Stop listening and end every connection; the ledger stays readable."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    @property
    def url(self) -> str:
        """The address, without any path."""
        if self._server is None:
            raise RuntimeError("the provider is not running; use it in a with block or start() it")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def openai_url(self) -> str:
        """The `base_url` of OpenAI's clients."""
        return self.url + "/v1"

    @property
    def anthropic_url(self) -> str:
        """The `base_url` of Anthropic's clients."""
        return self.url

    @property
    def gemini_url(self) -> str:
        """The address of Gemini's clients, which add `/v1beta/models/...`."""
        return self.url

    @property
    def ledger(self) -> tuple[BilledCall, ...]:
        """The calls that were billed, in the order of their billing."""
        return self._ledger.calls()

    @property
    def requests(self) -> int:
        """How many requests arrived, failed ones included."""
        return self._requests

    @property
    def received(self) -> tuple[LoopbackRequest, ...]:
        """The requests that could be read, failed ones included."""
        with self._changed:
            return tuple(self._received)

    @property
    def faults(self) -> tuple[Exception, ...]:
        """What `respond` raised, or the provider itself; a client got a 500 or no answer."""
        return tuple(self._faults)

    def billed(self, label: str | None = None) -> TokenUsage:
        """Return the sum of the calls with a label, or of all."""
        return self._ledger.billed(label)

    def enqueue(self, *replies: Reply) -> None:
        """Answer the next requests with these replies, one each."""
        self._queue.extend(replies)

    def clear(self) -> None:
        """Forget the ledger, the requests, the faults and the queue."""
        self._ledger.clear()
        self._queue.clear()
        self._faults.clear()
        with self._changed:
            self._received.clear()
            self._requests = 0

    def settle(self, timeout: float = 5.0, *, requests: int = 0) -> bool:
        """
        Wait until no request is being answered, and return whether that came to be.

        A client that leaves a stream is billed when the server sees it, a moment later.

        Args:
            timeout: The longest wait, in seconds.
            requests: How many requests must have arrived before, for a client that does not
                wait for its answer.
        """

        def is_settled() -> bool:
            return not self._in_flight and self._requests >= requests

        with self._changed:
            return self._changed.wait_for(is_settled, timeout)

    def _arrived(self) -> None:
        with self._changed:
            self._requests += 1
            self._in_flight += 1

    def _left(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[Answer, Reply, Settle]:
        route, name = route_of(method, path)
        if route is None:
            return refusal(error_body(404, f"Unknown request URL: {method} {path}"), 404)
        try:
            request = request_from(route, name, path, headers, raw)
        except ValueError as error:
            return refusal(route.error_body(400, str(error)), 400)
        with self._changed:
            self._received.append(request)
        if self.reject_unknown_stream_options and "stream_options" in request.body:
            message = "Unrecognized request argument supplied: stream_options"
            return refusal(route.error_body(400, message), 400)
        try:
            return self._answer(route, request)
        except Exception as error:  # noqa: BLE001 - a test's own function may raise anything
            self._faults.append(error)
            return refusal(route.error_body(500, f"the loopback provider failed: {error!r}"), 500)

    def _answer(self, route: Route, request: LoopbackRequest) -> tuple[Answer, Reply, Settle]:
        unique = self._ids()
        said = [directives_in(text) for text in request.inputs] if route.is_model_call else []
        said = said or [{}]
        try:
            chosen = self._choose(request, said) if route.is_model_call else (Reply(),)
        except BadDirectiveError as error:
            return refusal(route.error_body(400, str(error)), 400)
        reply = next((r for r, words in zip(chosen, said, strict=True) if words), chosen[0])
        draft = Draft(
            request=request,
            reply=reply,
            replies=chosen,
            unique=unique,
            created=int(time.time()),
        )
        answer = route.answer(draft)
        headers = {"x-request-id": f"req_{unique}", "request-id": f"req_{unique}"}
        if reply.retry_after is not None:
            headers["retry-after"] = f"{reply.retry_after:g}"
        answer = answer.finished(reply, route.error_body, headers)
        words = next((words for words in said if "label" in words), {})
        system = directives_in(request.system_text)
        label = request.label or words.get("label") or system.get("label") or reply.label

        def settle(billed: TokenUsage | None, told: TokenUsage | None) -> None:
            if billed is None or not route.is_model_call:
                return
            call = BilledCall(
                usage=billed,
                model=draft.model,
                operation=request.operation,
                endpoint=request.endpoint,
                response_id=answer.response_id,
                streamed=answer.is_stream,
                reported=told == billed,
                label=label,
                status_code=answer.status,
                service_tier=answer.service_tier,
                headers=request.headers,
                body=request.body,
            )
            self._ledger.add(call)

        return answer, reply, settle

    def _choose(self, request: LoopbackRequest, said: list[dict[str, str]]) -> tuple[Reply, ...]:
        """Return the reply of each input."""
        tool_is_done = request.has_tool_result

        def asked_by(words: dict[str, str]) -> Reply | None:
            if request.operation == "embedding" and "in" in words:
                words = {"embedding" if key == "in" else key: v for key, v in words.items()}
            return reply_from(words, tool_is_done=tool_is_done)

        asked = [asked_by(words) for words in said]
        if all(asked):
            return tuple(reply for reply in asked if reply)
        other = asked_by(directives_in(request.system_text)) or self._undirected(request)
        return tuple(reply or other for reply in asked)

    def _undirected(self, request: LoopbackRequest) -> Reply:
        try:
            return self._queue.popleft()
        except IndexError:
            pass
        chosen = self.respond(request) if self.respond is not None else None
        return chosen or self.default_reply

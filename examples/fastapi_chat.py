"""
A chat server: one conversation per session, answers streamed as they come.

    pip install 'agentsight-tokens[openai]' fastapi uvicorn
    export OPENAI_API_KEY=...
    uvicorn fastapi_chat:app
    curl -N localhost:8000/sessions/ana-1 -d '{"text": "Hello!"}' -H 'content-type: application/json'
    curl localhost:8000/sessions/ana-1
    curl -X DELETE localhost:8000/sessions/ana-1
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from agentsight_tokens import ConversationTracker

tracker = ConversationTracker(token_handler="openai")
sessions: defaultdict[str, list[dict[str, str]]] = defaultdict(list)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client, and send what sessions have used that nobody ended."""
    async with openai.AsyncOpenAI() as app.state.client:
        yield
    tracker.close()


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    """What the user says."""

    text: str


@app.post("/sessions/{session_id}")
async def say(session_id: str, message: Message) -> StreamingResponse:
    """Stream the answer; it counts in the conversation in which it was asked for."""
    history = sessions[session_id]
    history.append({"role": "user", "content": message.text})
    with tracker.conversation(session_id, feature="chat"):
        stream = await app.state.client.chat.completions.create(
            model="gpt-4o-mini", messages=history, stream=True
        )

    async def words() -> AsyncIterator[str]:
        answer = ""
        async for chunk in stream:
            if chunk.choices and (word := chunk.choices[0].delta.content):
                answer += word
                yield word
        history.append({"role": "assistant", "content": answer})

    return StreamingResponse(words(), media_type="text/plain")


@app.get("/sessions/{session_id}")
def used(session_id: str) -> dict[str, str | int]:
    """Tell what a session has used."""
    usage = tracker.get_usage(conversation_id=session_id)
    return {"calls": usage.request_count, "tokens": usage.total_tokens, "cost": f"{usage.cost:f}"}


@app.delete("/sessions/{session_id}")
async def end(session_id: str) -> dict[str, str]:
    """End a session: its cycle is sealed, and delivered in the background."""
    sessions.pop(session_id, None)
    with tracker.conversation(session_id):
        result = await tracker.asend_tracked_data()
    return {"status": result.status}

"""
A Celery worker: the web request's conversation goes with the task.

    pip install 'agentsight-tokens[openai]' 'celery[redis]'
    export OPENAI_API_KEY=... CELERY_BROKER_URL=redis://localhost:6379
    celery --app celery_worker worker
    python celery_worker.py support-42 'A long mail of a customer ...'
"""

import sys

import openai
from celery import Celery

from agentsight_tokens import ConversationTracker

app = Celery("celery_worker")
tracker = ConversationTracker(token_handler="openai")  # the worker's processes begin anew
client = openai.OpenAI()


@app.task(autoretry_for=(openai.APIError,), retry_backoff=True, ignore_result=True)
def summarise(conversation_id: str, mail: str) -> None:
    """Summarise a mail; what it used is durable when the task ends, and a retry adds its own."""
    with tracker.conversation(conversation_id, feature="summaries"):
        answer = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"Summarise in a sentence:\n{mail}"}],
        )
        tracker.send_tracked_data()
    print(answer.choices[0].message.content)


if __name__ == "__main__":
    summarise.delay(*sys.argv[1:3])

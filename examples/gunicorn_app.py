"""
A WSGI application under gunicorn, with and without `--preload`.

    pip install 'agentsight-tokens[openai]' gunicorn
    export OPENAI_API_KEY=...
    gunicorn --workers 4 --preload gunicorn_app:app
    curl localhost:8000/support-42 -d 'Where is my parcel?'
"""

import openai

from agentsight_tokens import ConversationTracker

tracker = ConversationTracker(token_handler="openai")  # with --preload, before workers are forked
client = openai.OpenAI()


def app(environ, start_response):
    """Answer a question; the path names its conversation."""
    question = environ["wsgi.input"].read().decode()
    with tracker.conversation(environ["PATH_INFO"].strip("/")):
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )
        tracker.send_tracked_data()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [answer.choices[0].message.content.encode()]

"""
An AWS Lambda function. Its settings are variables of the function:

    AGENTSIGHT_DATA_DIR=/tmp/agentsight
    AGENTSIGHT_API_ENDPOINT=https://ledger.example.com
    AGENTSIGHT_API_KEY=...
    OPENAI_API_KEY=...

and its handler is `aws_lambda.handler`; the package holds `agentsight-tokens[openai]`.
"""

import openai

from agentsight_tokens import ConversationTracker

tracker = ConversationTracker(token_handler="openai")  # once for each execution environment
client = openai.OpenAI()


def handler(event, context):
    """Answer a question; the delivery is awaited, for the process is frozen afterwards."""
    with tracker.conversation(event["session"]):
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": event["question"]}]
        )
        tokens = tracker.send_tracked_data(wait=2)
    return {"answer": answer.choices[0].message.content, "tokens": tokens.status}

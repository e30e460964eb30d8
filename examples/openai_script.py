"""
A script that asks OpenAI a few questions, and says what they cost.

    pip install 'agentsight-tokens[openai]'
    export OPENAI_API_KEY=...
    python openai_script.py
    agentsight-tokens report
"""

import sys

import openai

from agentsight_tokens import ConversationTracker

QUESTIONS = ["Why is the sky blue?", "And why is it red in the evening?"]


def main(questions: list[str]) -> None:
    """Ask the questions in one conversation."""
    tracker = ConversationTracker(token_handler="openai")
    with tracker.conversation("sky"), openai.OpenAI() as client:
        messages = []
        for question in questions:
            messages.append({"role": "user", "content": question})
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
            print(f"> {question}\n{messages[-1]['content']}\n")
        usage = tracker.get_usage(conversation_id="sky")
        print(f"{usage.request_count} calls, {usage.total_tokens} tokens, ${usage.cost:f}")
        tracker.send_tracked_data(wait=5)


if __name__ == "__main__":
    main(sys.argv[1:] or QUESTIONS)

"""
A router with a fallback: each answer is counted with the model that gave it.

    pip install 'agentsight-tokens[litellm]'
    export OPENAI_API_KEY=...
    python litellm_router.py
    agentsight-tokens report --by model,status
"""

import litellm

from agentsight_tokens import ConversationTracker

ROUTES = [
    {"model_name": "best", "litellm_params": {"model": "openai/gpt-4o"}},
    {"model_name": "spare", "litellm_params": {"model": "openai/gpt-4o-mini"}},
]
QUESTIONS = ["Where is my parcel?", "When will it come?"]


def main() -> None:
    """Ask the best model, and the spare one when that fails."""
    tracker = ConversationTracker(token_handler="litellm")
    router = litellm.Router(model_list=ROUTES, fallbacks=[{"best": ["spare"]}], num_retries=0)
    with tracker.conversation("support-42", user_id="alice"):
        for question in QUESTIONS:
            answer = router.completion("best", [{"role": "user", "content": question}])
            print(f"> {question}\n{answer.choices[0].message.content}\n")
        tracker.send_tracked_data(wait=5)
    for model, usage in tracker.get_usage(status="ok").by_model.items():
        print(f"{model}: {usage.request_count} calls, {usage.total_tokens} tokens, ${usage.cost:f}")
    tracker.close()


if __name__ == "__main__":
    main()

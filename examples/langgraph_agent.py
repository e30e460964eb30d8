"""
An agent that remembers: LangGraph's `thread_id` names the conversation.

    pip install 'agentsight-tokens[langchain]' langchain langchain-openai langgraph
    export OPENAI_API_KEY=...
    python langgraph_agent.py
    agentsight-tokens report --by conversation,agent
"""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from agentsight_tokens import ConversationTracker

QUESTIONS = [
    ("ana-1", "Where is parcel 7?"),
    ("ben-1", "Hello! I am Ben."),
    ("ana-1", "Thank you. When will it be here?"),
]


def where_is(parcel: int) -> str:
    """Look up where a parcel is."""
    return f"Parcel {parcel} left Berlin this morning."


def main() -> None:
    """Let two people talk to the agent, each in a thread of their own."""
    tracker = ConversationTracker(token_handler="langchain")
    agent = create_agent(
        ChatOpenAI(model="gpt-4o-mini"), tools=[where_is], checkpointer=InMemorySaver(), name="desk"
    )
    for thread, question in QUESTIONS:
        state = agent.invoke(
            {"messages": [{"role": "user", "content": question}]},
            {"configurable": {"thread_id": thread}},
        )
        print(f"{thread}> {question}\n{state['messages'][-1].text}\n")
    for thread in dict.fromkeys(thread for thread, _ in QUESTIONS):
        usage = tracker.get_usage(conversation_id=thread)
        print(f"{thread}: {usage.request_count} calls, {usage.total_tokens} tokens")
    tracker.close()  # every thread's cycle is sealed and delivered


if __name__ == "__main__":
    main()

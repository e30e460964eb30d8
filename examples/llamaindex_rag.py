"""
Questions about documents: embeddings are counted too, and apart.

    pip install 'agentsight-tokens[llamaindex]' llama-index-llms-openai llama-index-embeddings-openai
    export OPENAI_API_KEY=...
    python llamaindex_rag.py
    agentsight-tokens report --by feature,operation
"""

from llama_index.core import Document, VectorStoreIndex
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from agentsight_tokens import ConversationTracker

HANDBOOK = [
    "Parcels are delivered from Monday to Saturday, between eight and six.",
    "A parcel that nobody takes is kept for ten days at the nearest shop.",
    "What is broken on arrival is replaced; a photo of it is enough.",
]
QUESTIONS = ["Do you deliver on Sundays?", "My cup is broken. What now?"]


def main() -> None:
    """Index the handbook in one conversation, and answer each question in its own."""
    tracker = ConversationTracker(token_handler="llamaindex")
    embedding = OpenAIEmbedding(model="text-embedding-3-small")
    with tracker.conversation("handbook", feature="indexing"):
        index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in HANDBOOK], embed_model=embedding
        )
        tracker.send_tracked_data()

    engine = index.as_query_engine(llm=OpenAI(model="gpt-4o-mini"), similarity_top_k=2)
    for number, question in enumerate(QUESTIONS, start=1):
        with tracker.conversation(f"question-{number}", feature="answering"):
            print(f"> {question}\n{engine.query(question)}\n")
            tracker.send_tracked_data()

    for feature in ("indexing", "answering"):
        usage = tracker.get_usage(feature=feature)
        print(f"{feature}: {usage.embedding_tokens} tokens embedded, {usage.total_tokens} others")
    tracker.close()


if __name__ == "__main__":
    main()

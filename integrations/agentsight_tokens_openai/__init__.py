"""What the handlers share about the OpenAI SDK: the tap on its embeddings."""

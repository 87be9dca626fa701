"""One finished stage's model as a folder that transformers and vLLM load, with a model card, and to a hub."""

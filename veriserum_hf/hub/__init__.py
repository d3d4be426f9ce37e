"""Publish data sets and checkpoints on the Hugging Face hub."""

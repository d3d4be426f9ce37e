"""Batches, augmentation and what a training run keeps."""

"""What lrsearch knows about PyTorch: a trainable, its snapshot, its batches."""

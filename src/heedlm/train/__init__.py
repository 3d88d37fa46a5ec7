"""The training loop: batches in, weights out, with checkpoints that resume bit for bit."""

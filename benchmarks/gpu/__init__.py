"""Heed on one GPU: decoding, training and a full PPO step beside what the device itself can do."""

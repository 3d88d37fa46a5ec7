"""Pure functions of tensors and numbers; every other package builds on these."""

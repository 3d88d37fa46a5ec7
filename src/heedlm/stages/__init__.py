"""One file for every arrow of the path: its settings on top, `run` below."""

"""A reward of one's own: short answers, closed by a full stop."""


def score(prompt: str, response: str) -> float:
    """One point for an answer that closes its sentence, less a tenth for every five characters over thirty."""
    closed = response.rstrip().endswith((".", "!", "?", "。", "！", "？"))
    return closed - 0.02 * max(0, len(response) - 30)

"""Right or wrong, decided by the whole answer: the way leads by two places that differ, and then there."""

import re


def score(prompt: str, response: str) -> float:
    """1 for a way that arrives, 0 for any other; the straight way is under water, and so is one with a single stop."""
    start, goal = re.findall(r"the (\w+)", prompt)
    way = response.split()
    return float(len(way) == 3 and way[-1] == goal and len({start, *way}) == 4)

"""Feedback from people: what is asked, where it is kept, who gets which task, how far people agree."""

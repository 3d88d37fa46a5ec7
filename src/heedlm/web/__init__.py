"""The web application: chat, annotation, management, runs. It knows no torch; models and processes are handed to it."""

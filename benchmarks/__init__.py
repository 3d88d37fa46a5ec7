"""Speed and memory of Heed beside its peers: see README.md here."""

"""One module for each contestant: a function for each case it can run."""

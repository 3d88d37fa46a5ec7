"""Measurements, one file each. Pure functions of numbers and text; torch only where a model is called."""

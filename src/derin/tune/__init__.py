"""Tuning: a space is an experiment with distributions in it; a population trains its trials as one program."""

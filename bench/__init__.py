"""Benchmarks of derin beside its peers: `python -m bench` lists them."""

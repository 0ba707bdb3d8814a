"""Heads learned from a feature store: what a proposal is used for, how batches are drawn, the loop, run folders."""

"""Prompt tables in, result tables out; knows files and Arrow, not the ledger."""

"""Receipts and fleet events, gathered before they are published."""

"""Responses: decisions on threats, the desired measures, and responders that carry them out."""

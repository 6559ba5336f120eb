"""Responses: decisions on threats, the wanted measures, and responders that carry them out."""

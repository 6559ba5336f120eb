"""Threat index: bitmaps over slices of the stored threats, for filtered searches."""

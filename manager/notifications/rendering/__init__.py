"""Rendering: messages as text in each channel's dialect, as CloudEvents and as ECS documents."""

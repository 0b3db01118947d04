"""Distillation methods, one paper each."""

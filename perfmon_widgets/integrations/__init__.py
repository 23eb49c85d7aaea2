"""Callbacks for training frameworks, and exporters to experiment trackers. Only their users import them."""

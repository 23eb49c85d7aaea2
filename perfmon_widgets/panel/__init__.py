"""The panel: ordinary widgets over one monitor."""

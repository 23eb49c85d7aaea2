"""The panel: ordinary widgets that draw what the views say about one monitor.

panel.py puts the parts together. Read actions.py for the path of a click, and gauges.py and sections.py for
the path of a sample.
"""

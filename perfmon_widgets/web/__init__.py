"""The HTTP API: what each URL answers, and a server in this process."""

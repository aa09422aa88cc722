"""The dashboard: a process of its own that reads the runner's journal and the lake, and can sign nothing."""

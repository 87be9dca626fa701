"""Questions: sources, task formats, resumable streams."""

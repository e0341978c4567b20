"""vLLM as a sampler: its engine in a process of its own, watched, and restarted when it fails."""

"""The Tinker fine-tuning system on your own hardware."""

"""What a shell may offer next: asked of the parsers themselves, so that it cannot drift."""

"""The harness: one image, launched on every backend in random blocks, measured, written down."""

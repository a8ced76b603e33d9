"""The container runtime: images, and containers made of them by a plan that can be read."""

"""Containers: what is asked, the plan that makes it, and the running thing."""

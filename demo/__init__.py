"""`python -m demo`: the main job, offline, with the real daemon; see the README."""

"""Paid tasks about finished images: ratings, alt texts and reviews, over the engine's own steps."""

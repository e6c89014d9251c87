"""Turn tables of prompts into tables of images with Mynth, in Dagster, without paying twice."""

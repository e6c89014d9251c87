"""The API over HTTP: one session, free reads, and the paid call whose answer is sorted by proof."""

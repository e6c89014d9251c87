"""The API over HTTP: one session, free reads, and the paid call whose response is sorted."""

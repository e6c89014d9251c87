"""The work itself: plan, quote, submit, poll, settle, collect, report. Asynchronous throughout."""

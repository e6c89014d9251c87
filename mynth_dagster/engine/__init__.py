"""The work itself: plan, quote, submit, poll, resolve, collect, report. Asynchronous throughout."""
